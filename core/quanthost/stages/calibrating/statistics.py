"""Owns ``Statistics``: range statistics as a value that merges, saves, loads, and knows its model."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import safetensors
import safetensors.torch
import torch

from quanthost.arith.channel_range import ChannelRange, RangeStatistics, merge_ranges
from quanthost.arith.sketch import RangeSketch
from quanthost.errors import RequestError, StatisticsError, ValueCheckError
from quanthost.stages.calibrating.batch_sample import BatchSample, SampledBatch
from quanthost.stages.whole_files import write_whole
from quanthost.values import from_data, to_data, to_json

__all__ = ["Part", "Shard", "Statistics", "StatisticsSource", "merge_statistics"]

FORMAT = 2
_DIGESTS = 1 << 256


@attrs.frozen(order=True)
class Shard:
    """One of ``count`` shares of the data, numbered from 1: the batches ``number``, ``number + count``, …"""

    number: int
    count: int

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueCheckError(
                f"the shard {self.number}/{self.count}", needed="a number from 1 to the count",
                where="shard", remedy="write for example 3/16 for the third of sixteen", value=self,
            )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def of(cls, text: str) -> Shard:
        """``"3/16"``."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise RequestError(
                f"the shard {text!r}", needed="number/count, for example 3/16", stage="calibrate",
                remedy="give the number of this share, from 1, and of all shares", value=text,
            )  # fmt: skip
        return cls(int(match[1]), int(match[2]))

    def has(self, position: int) -> bool:
        """Whether the batch at that position, counted from 0, belongs to this shard."""
        return position % self.count == self.number - 1


@attrs.frozen
class Part:
    """A count of observed batches; ``data`` is the sum of their SHA-256 modulo 2^256, as 64 hex digits."""

    shard: Shard | None
    batches: int
    data: str

    def __attrs_post_init__(self) -> None:
        if self.batches < 0 or not re.fullmatch("[0-9a-f]{64}", self.data):
            raise ValueCheckError(
                f"{self.batches} batches with the digest {self.data!r}", where="Part",
                needed="a count, and 64 hexadecimal digits", remedy="calibrate again", value=self,
            )  # fmt: skip

    @property
    def order(self) -> tuple[int, str]:
        """The sort key: merged statistics list their parts in the same order however they were merged."""
        return (self.shard.number if self.shard else 0), self.data


@attrs.frozen
class StatisticsSource:
    """What statistics belong to: the model, the observed graph, and the versions that computed it."""

    model: str
    graph: str
    versions: tuple[tuple[str, str], ...]


def sum_of_digests(*digests: str) -> str:
    """A digest that does not depend on order: the sum of the digests modulo 2^256.

    Bellare and Micciancio 1997, "A New Paradigm for Collision-Free Hashing", AdHash.
    """
    return f"{sum(int(digest, 16) for digest in digests) % _DIGESTS:064x}"


@attrs.frozen(kw_only=True, eq=False)
class Statistics:
    """Range statistics of observed tensors: a commutative monoid under ``merge``.

    Every order, split and merge of the same data gives the same bits. ``tensors`` has a sketch for each
    observer, by the names of the tensors that share it; ``sample`` has the batches on which ``convert``
    compares its trials. ``complete`` is false after an interrupted calibration.
    """

    origin: StatisticsSource
    parts: tuple[Part, ...]
    tensors: Mapping[str, RangeStatistics] = attrs.field(repr=False)
    sample: BatchSample = attrs.field(factory=BatchSample, repr=False)
    complete: bool = True

    @property
    def batches(self) -> int:
        """Number of batches in all parts."""
        return sum(part.batches for part in self.parts)

    @property
    def data_digest(self) -> str:
        """``sha256:`` and the sum of the digests of all batches, the same for every order of them."""
        return f"sha256:{sum_of_digests(*(part.data for part in self.parts))}"

    @property
    def missing(self) -> tuple[Shard, ...]:
        """The shards of the data that are not merged in yet."""
        shards = {part.shard for part in self.parts if part.shard is not None}
        counts = {shard.count for shard in shards}
        return tuple(sorted({Shard(n, count) for count in counts for n in range(1, count + 1)} - shards))

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both parts of the data; neither operand changes.

        Raises:
            StatisticsError: models or versions differ, one part is incomplete, a shard would count twice, or
                the parts split the data differently.
        """
        self.check_source(other.origin)
        _check_parts(self, other)
        _check_tensors(self, other)
        whole = attrs.evolve(
            self, sample=self.sample.merge(other.sample),
            parts=tuple(sorted((*self.parts, *other.parts), key=lambda part: part.order)),
            tensors={name: merge_ranges(one, other.tensors[name]) for name, one in self.tensors.items()},
        )  # fmt: skip
        return whole if whole.missing else whole._as_one()

    def _as_one(self) -> Statistics:
        """Replace a complete set of shards by the one part that a single process would have."""
        if any(part.shard is None for part in self.parts):
            return self
        whole = Part(None, self.batches, sum_of_digests(*(part.data for part in self.parts)))
        return attrs.evolve(self, parts=(whole,))

    def check_source(self, expected: StatisticsSource) -> None:
        """Raise a StatisticsError that names what differs, unless the statistics belong to ``expected``."""
        mine, theirs = (
            {"model": o.model, "graph": o.graph, **dict(o.versions)} for o in (self.origin, expected)
        )
        differing = [name for name in theirs if mine.get(name) != theirs[name]]
        if not differing:
            return
        actual = ", ".join(f"{name} {mine.get(name)}" for name in differing)
        raise StatisticsError(
            f"statistics of another {differing[0]}: {actual}", stage="calibrate", value=self,
            needed=", ".join(f"{name} {theirs[name]}" for name in differing),
            remedy="calibrate again with the model, the backend and the versions that you have now",
        )  # fmt: skip

    def save(self, path: Path | str) -> None:
        """Write a safetensors file, whole or not at all.

        Raises:
            StatisticsError: the folder does not exist or is not writable, or the disk is full.
        """
        path = Path(path)
        try:
            write_whole(path, self.to_bytes())
        except OSError as error:
            raise StatisticsError(
                f"cannot write {path}: {error.strerror or error}", where=str(path.parent),
                needed="a folder that exists and is writable, on a disk with room", value=path,
                remedy="create the folder, free space on the disk, or choose another path",
            ) from error  # fmt: skip

    def to_bytes(self) -> bytes:
        """The content of a saved file; equal statistics give equal bytes."""
        tensors: dict[str, torch.Tensor] = {}
        for name, measured in sorted(self.tensors.items()):
            tensors |= {f"{name}/{key}": value for key, value in measured.state().items()}
        for batch in self.sample.batches:
            tensors |= {f"sample/{batch.digest}/{n}": leaf for n, leaf in enumerate(batch.leaves)}
        header = {
            "format": FORMAT, "complete": self.complete, "origin": to_data(self.origin),
            "parts": to_data(self.parts), "tensors": {n: _axis(m) for n, m in self.tensors.items()},
            "sample": [batch.digest for batch in self.sample.batches], "cut": self.sample.cut,
            "digest": _digest_of(tensors),
        }  # fmt: skip
        return safetensors.torch.save(tensors, {"quanthost": to_json(header)})

    @classmethod
    def load(cls, path: Path | str) -> Statistics:
        """Read what ``save`` wrote.

        Raises:
            StatisticsError: the file is missing, damaged, of another format, or no statistics.
        """
        path = Path(path)
        if not path.is_file():
            raise StatisticsError(
                f"no file {path}", needed="statistics that were saved", where=str(path.parent),
                remedy="correct the path, or calibrate first", value=path,
            )  # fmt: skip
        return cls.from_bytes(path.read_bytes(), where=str(path))

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> Statistics:
        """The inverse of ``to_bytes``; ``where`` names the place in errors."""
        try:
            length = int.from_bytes(content[:8], "little")
            header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["quanthost"])
            tensors = safetensors.torch.load(content)
        except (ValueError, LookupError, TypeError, safetensors.SafetensorError) as error:
            raise _unreadable(f"a file that is damaged or holds no statistics: {error}", where) from error
        if header.get("format") != FORMAT:
            raise _unreadable(f"statistics of the format {header.get('format')!r}", where)
        if header["digest"] != _digest_of(tensors):
            raise _unreadable("statistics whose numbers changed after they were saved", where)
        states = _states(tensors)
        try:
            return cls(
                origin=from_data(StatisticsSource, header["origin"], where=where),
                complete=header["complete"],
                parts=tuple(from_data(Part, part, where=where) for part in header["parts"]),
                tensors={n: _measured(axis, states[n]) for n, axis in header["tensors"].items()},
                sample=BatchSample(
                    tuple(_sampled_batch(d, states[f"sample/{d}"]) for d in header["sample"]), header["cut"]
                ),
            )  # fmt: skip
        except (LookupError, ValueCheckError) as error:
            raise _unreadable(f"statistics that contradict themselves: {error}", where) from error


def merge_statistics(parts: Iterable[Statistics]) -> Statistics:
    """The statistics of all parts; the order of the parts does not matter.

    Raises:
        StatisticsError: there is no part, or two parts do not belong together.
    """
    listed = list(parts)
    if not listed:
        raise StatisticsError(
            "no statistics to merge", needed="at least one part", stage="calibrate",
            remedy="pass what collect_statistics returned for each share of the data",
        )  # fmt: skip
    return functools.reduce(Statistics.merge, listed)


def _unreadable(seen: str, where: str) -> StatisticsError:
    return StatisticsError(
        seen, needed=f"a complete file of format {FORMAT}, written by quanthost", where=where,
        remedy="copy it again, or calibrate again",
    )  # fmt: skip


def _check_parts(one: Statistics, other: Statistics) -> None:
    for statistics in (one, other):
        if not statistics.complete:
            raise StatisticsError(
                f"statistics of a calibration that was stopped after {statistics.batches} batches",
                needed="complete statistics", stage="calibrate",
                remedy="run that calibration again with the same checkpoint: it resumes",
                value=statistics,
            )  # fmt: skip
    cuts = {part.shard.count if part.shard else 1 for part in (*one.parts, *other.parts)}
    if len(cuts) > 1:
        shown = " and ".join(sorted(f"{cut} shards" if cut > 1 else "data without shards" for cut in cuts))
        raise StatisticsError(
            f"parts of {shown}", needed="parts that split the data the same way", stage="calibrate",
            remedy="merge the parts of one split; calibrate the others again", value=tuple(cuts),
        )  # fmt: skip
    for part in other.parts:
        if any(_is_same(earlier, part) for earlier in one.parts):
            name = f"the shard {part.shard}" if part.shard else f"the same {part.batches} batches"
            raise StatisticsError(
                f"{name} twice", needed="each batch once", stage="calibrate", value=part,
                remedy="leave one of the two out",
            )  # fmt: skip


def _is_same(one: Part, other: Part) -> bool:
    if one.shard is not None or other.shard is not None:
        return one.shard == other.shard
    return one.batches > 0 and one == other


def _check_tensors(one: Statistics, other: Statistics) -> None:
    differing = sorted(one.tensors.keys() ^ other.tensors.keys())
    if differing:
        raise StatisticsError(
            f"statistics of different tensors: only one has {', '.join(differing[:5])}", stage="calibrate",
            needed="parts with the same recipe and the same overrides",
            remedy="calibrate all parts with the same settings", value=tuple(differing),
        )  # fmt: skip


def _axis(measured: RangeStatistics) -> int | None:
    return measured.axis if isinstance(measured, ChannelRange) else None


def _states(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Group tensors by the part of their name before the last slash."""
    states: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        prefix, _, key = name.rpartition("/")
        states.setdefault(prefix, {})[key] = tensor
    return states


def _measured(axis: int | None, state: Mapping[str, torch.Tensor]) -> RangeStatistics:
    return RangeSketch.from_state(state) if axis is None else ChannelRange.from_state(axis, state)


def _sampled_batch(digest: str, leaves: Mapping[str, torch.Tensor]) -> SampledBatch:
    return SampledBatch(digest, tuple(leaves[str(number)] for number in range(len(leaves))))


def _digest_of(tensors: Mapping[str, Any]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
