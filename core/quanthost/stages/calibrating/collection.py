"""Runs one pass of calibration over the data, in threads, and saves and resumes checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import fx

from quanthost.errors import CalibrationError, InputError, StatisticsError
from quanthost.stages.calibrating.batch_sample import BatchSample
from quanthost.stages.calibrating.batches import digest_of_batch, flat_batch, own_memory
from quanthost.stages.calibrating.forward import collecting, density
from quanthost.stages.calibrating.observing import (
    data_observers,
    load_statistics,
    read_statistics,
    source_of_statistics,
)
from quanthost.stages.calibrating.statistics import Part, Shard, Statistics, sum_of_digests
from quanthost.stages.calibrating.threads import ThreadTeam, may_run_in_threads
from quanthost.stages.progress import Progress
from quanthost.stages.records import PreparedModel

__all__ = ["Collection"]

_CHECKPOINT_SECONDS = 10.0
# a batch of so many values keeps all threads busy, and several at once would need much memory
_LARGE = 1 << 20
# shorter batches go to a thread in groups of about this length: waking a thread costs as much
_GROUP_SECONDS = 0.005

_Flat: TypeAlias = Sequence[Any]
_Group: TypeAlias = Sequence[_Flat]
_DigestedGroup: TypeAlias = list[tuple[_Flat, str]]


class Collection:
    """One pass over a shard of the data with the observers of a module; see ``collect_statistics``."""

    def __init__(
        self,
        prepared: PreparedModel,
        module: fx.GraphModule,
        shard: Shard | None,
        checkpoint: Path | str | None,
        unsaved: Callable[[StatisticsError], None] | None,
    ) -> None:
        self._prepared, self._shard, self._unsaved = prepared, shard, unsaved
        self._path = None if checkpoint is None else Path(checkpoint)
        self._module = module
        self._origin = source_of_statistics(prepared)
        self._sample = BatchSample()
        self._count, self._digest = 0, sum_of_digests()
        # the statistics of the checkpoint, until the data has caught up with it
        self._earlier = self._load_checkpoint()
        self._observers = [observer for _, observer in data_observers(module).values()]
        self._run = collecting(module, self._observers)
        self._density = density(module, self._observers)
        # for each batch that may run at the same time: the functions that take in its tensors
        self._free: list[list[Callable[[torch.Tensor], None]]] = []
        # seconds that a batch took last
        self._batch_seconds = math.inf
        self._last_save = time.monotonic()
        self._ended = False

    @torch.no_grad()  # type: ignore[untyped-decorator]  # torch does not say what it returns
    def run(self, batches: Iterable[Any], progress: Progress) -> Statistics:
        """Observe the batches of the shard; returns, and saves, their statistics."""
        several = not self._prepared.captured.train and may_run_in_threads(self._module)
        total = self._total(batches)
        with ThreadTeam(self._observe, threads=several, alone=lambda group: _is_large(group[0])) as team:
            flats = self._flats(batches, progress, total)
            while not self._ended:
                self._advance(team, flats, progress, total)
                if not self._ended:
                    self._save(self._statistics(complete=False))
                    self._last_save = time.monotonic()
        if self._earlier is not None:
            raise _other_data(self._path, self._earlier.batches, f"{self._count} batches")
        if self._count == 0 and self._shard is None:
            raise CalibrationError(
                "calibration data with no batch", needed="at least one batch", stage="calibrate",
                remedy="check that the loader is not empty, and that a generator was not used before",
            )  # fmt: skip
        statistics = self._statistics(complete=True)
        self._save(statistics)
        return statistics

    def _advance(
        self,
        team: ThreadTeam[_Group, _DigestedGroup],
        flats: Iterable[_Flat],
        progress: Progress,
        total: int | None,
    ) -> None:
        """Observe batches until it is time to save; the observers then hold every counted batch."""
        others = [[observer.empty_copy() for observer in self._observers] for _ in range(1, team.size)]
        self._free = [
            [observer.update_function(self._density) for observer in team_member]
            for team_member in (*others, self._observers)
        ]
        for group in team.map(self._until_time_to_save(flats)):
            for flat, digest in group:
                self._count_batch(digest)
                if all(isinstance(leaf, torch.Tensor) for leaf in flat):
                    self._sample = self._sample.with_batch(digest, flat)
                progress.batch(self._count, total)
        for team_member in others:
            for observer, other in zip(self._observers, team_member):
                observer.add(other)

    @torch.no_grad()  # type: ignore[untyped-decorator]  # no_grad holds for one thread
    def _observe(self, group: _Group) -> _DigestedGroup:
        takers = self._free.pop()
        start = time.monotonic()
        digested = []
        for flat in group:
            try:
                self._run(takers, *flat)
            except RuntimeError as error:
                raise CalibrationError(
                    f"the model fails on a batch: {str(error).splitlines()[0]}", stage="calibrate",
                    needed="batches that the model computes", where="calibration data",
                    remedy="run the model on each batch; a batch may hold values that an operator refuses",
                ) from error  # fmt: skip
            digested.append((flat, digest_of_batch(flat)))
        self._batch_seconds = (time.monotonic() - start) / len(group)
        self._free.append(takers)
        return digested

    def _flats(self, batches: Iterable[Any], progress: Progress, total: int | None) -> Iterator[_Flat]:
        """The flat batches to run; those that the checkpoint holds are only counted."""
        signature = self._prepared.captured.signature
        for position, batch in enumerate(batches):
            if self._shard is not None and not self._shard.has(position):
                continue
            try:
                flat = flat_batch(batch, signature, position + 1)
            except InputError as error:
                if not isinstance(batches, torch.Tensor):
                    raise
                raise InputError(
                    f"one tensor as data, {error.seen}", needed=error.needed, where=error.where,
                    remedy="wrap the tensor in a list if it is one batch: [x]; split it if it holds several: "
                    "x.split(N)", stage="calibrate", value=batches,
                ) from error  # fmt: skip
            if self._earlier is None:
                yield own_memory(flat)
                continue
            self._count_batch(digest_of_batch(flat))
            self._compare_with_checkpoint(self._earlier)
            progress.batch(self._count, total)

    def _until_time_to_save(self, flats: Iterable[_Flat]) -> Iterator[_Group]:
        group: list[_Flat] = []
        start = time.monotonic()
        for flat in flats:
            large = _is_large(flat)
            if group and large:
                yield group
                group = []
            group.append(flat)
            now = time.monotonic()
            is_time = self._path is not None and now - self._last_save >= _CHECKPOINT_SECONDS
            is_enough = max(len(group) * self._batch_seconds, now - start) >= _GROUP_SECONDS
            if is_time or is_enough or large:
                yield group
                group, start = [], time.monotonic()
            if is_time:
                return
        if group:
            yield group
        self._ended = True

    def _count_batch(self, digest: str) -> None:
        self._count += 1
        self._digest = sum_of_digests(self._digest, digest)

    def _save(self, statistics: Statistics) -> None:
        if self._path is None:
            return
        try:
            statistics.save(self._path)
        except StatisticsError as error:
            if self._unsaved is None:
                raise
            self._unsaved(error)
            self._path = None

    def _total(self, batches: Iterable[Any]) -> int | None:
        if not isinstance(batches, Sized):
            return None
        if self._shard is None:
            return len(batches)
        return len(range(self._shard.number - 1, len(batches), self._shard.count))

    def _compare_with_checkpoint(self, earlier: Statistics) -> None:
        if self._count < earlier.batches:
            return
        if self._digest != earlier.parts[0].data:
            raise _other_data(self._path, earlier.batches, "other batches")
        self._earlier = None

    def _load_checkpoint(self) -> Statistics | None:
        if self._path is None or not self._path.exists():
            return None
        earlier = Statistics.load(self._path)
        earlier.check_source(self._origin)
        shards = [part.shard for part in earlier.parts]
        if shards != [self._shard]:
            raise StatisticsError(
                f"a checkpoint of {', '.join(str(shard or 'all data') for shard in shards)}",
                needed=f"a checkpoint of {self._shard or 'all data'}", where=str(self._path), value=earlier,
                remedy="name another file for this shard",
            )  # fmt: skip
        missing = load_statistics(self._module, earlier.tensors)
        if missing:
            raise StatisticsError(
                f"a checkpoint without the tensors {', '.join(missing[:5])}", where=str(self._path),
                needed="the recipe and the overrides that the checkpoint was started with", value=earlier,
                remedy="name another file for these settings",
            )  # fmt: skip
        self._sample = earlier.sample
        return earlier if earlier.batches else None

    def _statistics(self, *, complete: bool) -> Statistics:
        part = Part(self._shard, self._count, self._digest)
        return Statistics(
            origin=self._origin, parts=(part,), tensors=read_statistics(self._module), sample=self._sample,
            complete=complete,
        )  # fmt: skip


def _is_large(flat: _Flat) -> bool:
    return bool(sum(leaf.numel() for leaf in flat if isinstance(leaf, torch.Tensor)) >= _LARGE)


def _other_data(path: Path | None, count: int, seen: str) -> StatisticsError:
    return StatisticsError(
        f"a checkpoint of {count} batches, and data that begins with {seen}", where=str(path),
        needed="the same data in the same order", stage="calibrate",
        remedy="pass the data that the checkpoint was started with, or name another file",
    )  # fmt: skip
