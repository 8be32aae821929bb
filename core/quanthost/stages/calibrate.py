"""``calibrate``: run real data through the observed graph, and refuse data that cannot give ranges."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from torch import fx

from quanthost.arith.sketch import HUGE, ChannelRange, RangeSketch
from quanthost.errors import CalibrationError, InputError, QuanthostError, StatisticsError
from quanthost.graph.signature import Signature
from quanthost.stages import ranks
from quanthost.stages.collecting import collecting
from quanthost.stages.observing import (
    give,
    needs_data,
    observe_constants,
    observed_name,
    of_data,
    origin_of,
    taken,
)
from quanthost.stages.progress import Progress, silent
from quanthost.stages.records import CalibratedModel, PreparedModel
from quanthost.stages.sample import Sample
from quanthost.stages.statistics import Part, Shard, Statistics, sum_of_digests
from quanthost.toolchain.pt2e import deep_copy
from quanthost.values import Kernel

__all__ = ["arguments", "calibrate", "collect_statistics", "digest_of_data"]

# how often a calibration writes down what it has
_SECONDS = 10.0


def calibrate(
    prepared: PreparedModel,
    batches: Iterable[Any] | Statistics | None,
    progress: Progress | None = None,
    *,
    checkpoint: Path | str | None = None,
) -> CalibratedModel:
    """Observe every batch, or take statistics that were collected before.

    A batch is a tensor, a tuple or list of positional arguments, or a mapping of arguments by name;
    shapes and dtypes are those of the captured signature. ``None`` is enough where the recipe needs no
    data. Under ``torchrun`` each rank observes its share of the batches, and all have the same result.

    Args:
        prepared: What ``prepare`` returned.
        batches: The data, or statistics of this model.
        progress: Is told of each batch.
        checkpoint: See ``collect_statistics``.

    Raises:
        CalibrationError: no batch, NaN or Inf in a batch (with tensor and batch number) or in a tensor
            that is observed, numbers beyond ±1e30 in such a tensor, or one that no batch reached.
        InputError: a batch that is not what the model was captured with.
        StatisticsError: statistics of another model, or that lack a tensor or a share of the data.
    """
    module = deep_copy(prepared.module)
    if batches is None:
        _refuse_missing(module, prepared)
        observe_constants(module)
        return CalibratedModel(prepared=prepared, module=module)
    if isinstance(batches, Statistics):
        _refuse_incomplete(batches)
        batches.check_origin(origin_of(prepared))
    else:
        # of this model by its making, but several ranks may have had no batch among them
        batches = _collected(prepared, module, batches, progress, None, checkpoint)
        _refuse_incomplete(batches)
    missing = give(module, batches.tensors)
    if missing:
        raise StatisticsError(
            f"statistics without the tensors {', '.join(missing[:5])}", stage="calibrate", value=batches,
            needed="a range for each tensor that is quantized",
            remedy="calibrate with the recipe and the overrides that you convert with",
        )  # fmt: skip
    observe_constants(module)
    _check_ranges(module)
    return CalibratedModel(prepared=prepared, module=module, statistics=batches)


def collect_statistics(
    prepared: PreparedModel,
    batches: Iterable[Any],
    progress: Progress | None = None,
    *,
    shard: Shard | str | None = None,
    checkpoint: Path | str | None = None,
    unsaved: Callable[[StatisticsError], None] | None = None,
) -> Statistics:
    """Observe every batch of a share of the data, and return what was seen.

    Args:
        prepared: What ``prepare`` returned.
        batches: All of the data, in the same order in each process.
        progress: Is told of each batch.
        shard: ``"3/16"`` observes the third of each sixteen batches. Under ``torchrun`` the shard is the
            rank's where ``None``, and each rank returns the statistics of all.
        checkpoint: A file that the statistics are written to now and then, and at the end. Where it exists,
            what it has seen is not run again; the data must begin with the same batches.
        unsaved: Is called with the error where the checkpoint cannot be written, and the calibration goes on
            without; where ``None``, the error ends it.

    Raises:
        CalibrationError: no batch, though there is but one share; NaN or Inf in a batch; another rank failed.
        InputError: a batch that is not what the model was captured with.
        StatisticsError: the checkpoint is of another model, share or data.
    """
    given = Shard.of(shard) if isinstance(shard, str) else shard
    return _collected(prepared, deep_copy(prepared.module), batches, progress, given, checkpoint, unsaved)


def digest_of_data(prepared: PreparedModel, batches: Iterable[Any]) -> str:
    """The ``data_digest`` that statistics of these batches have, without running them.

    Raises:
        CalibrationError: NaN or Inf in a batch.
        InputError: a batch that is not what the model was captured with.
    """
    total = sum_of_digests()
    for number, batch in enumerate(batches, start=1):
        args, kwargs = arguments(batch, prepared.captured.signature, what=f"batch {number}")
        total = sum_of_digests(total, _digest(_check(args, kwargs, number, prepared)))
    return f"sha256:{total}"


def _collected(
    prepared: PreparedModel,
    module: fx.GraphModule,
    batches: Iterable[Any],
    progress: Progress | None,
    shard: Shard | None,
    checkpoint: Path | str | None,
    unsaved: Callable[[StatisticsError], None] | None = None,
) -> Statistics:
    with ranks.joined() as group:
        mine = shard if shard is not None or group is None else Shard(group.rank + 1, group.size)
        try:
            found = _Collection(prepared, module, mine, checkpoint, unsaved).run(
                batches, progress or silent()
            )
        except QuanthostError as error:
            if group is not None:
                group.tell(error)
            raise
        return found if group is None else group.merged(found)


class _Collection:
    """One pass over the data: what is observed, and what of it a checkpoint has already."""

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
        self._origin = origin_of(prepared)
        self._sample = Sample()
        self._count, self._digest = 0, sum_of_digests()
        # what the checkpoint saw, until the data has come to the same place
        self._earlier = self._resumed()
        self._collect = collecting(module)
        self._saved = time.monotonic()

    def run(self, batches: Iterable[Any], progress: Progress) -> Statistics:
        """Observe the share's batches, and keep the result."""
        total = self._total(batches)
        with torch.no_grad():
            for position, batch in enumerate(batches):
                if self._shard is None or self._shard.has(position):
                    self._observe(batch, position + 1)
                    progress.batch(self._count, total)
        if self._earlier is not None:
            raise _other_data(self._path, self._earlier.batches, f"{self._count} batches")
        if self._count == 0 and self._shard is None:
            raise CalibrationError(
                "calibration data with no batch", needed="at least one batch", stage="calibrate",
                remedy="check that the loader is not empty, and that a generator was not already used up",
            )  # fmt: skip
        found = self._statistics(complete=True)
        self._save(found)
        return found

    def _save(self, found: Statistics) -> None:
        if self._path is None:
            return
        try:
            found.save(self._path)
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

    def _observe(self, batch: Any, number: int) -> None:
        args, kwargs = arguments(batch, self._prepared.captured.signature, what=f"batch {number}")
        flat = _check(args, kwargs, number, self._prepared)
        digest = _digest(flat)
        self._count += 1
        self._digest = sum_of_digests(self._digest, digest)
        if self._earlier is not None:
            self._skip(self._earlier)
            return
        self._collect(*flat)
        if all(isinstance(leaf, torch.Tensor) for leaf in flat):
            self._sample = self._sample.offered(digest, flat)
        if self._path is not None and time.monotonic() - self._saved >= _SECONDS:
            self._save(self._statistics(complete=False))
            self._saved = time.monotonic()

    def _skip(self, earlier: Statistics) -> None:
        if self._count < earlier.batches:
            return
        if self._digest != earlier.parts[0].data:
            raise _other_data(self._path, earlier.batches, "other ones")
        self._earlier = None

    def _resumed(self) -> Statistics | None:
        if self._path is None or not self._path.exists():
            return None
        earlier = Statistics.load(self._path)
        earlier.check_origin(self._origin)
        seen = [part.shard for part in earlier.parts]
        if seen != [self._shard]:
            raise StatisticsError(
                f"a checkpoint of {', '.join(str(shard or 'all data') for shard in seen)}",
                needed=f"one of {self._shard or 'all data'}", where=str(self._path), value=earlier,
                remedy="name another file for this share of the data",
            )  # fmt: skip
        missing = give(self._module, earlier.tensors)
        if missing:
            raise StatisticsError(
                f"a checkpoint without the tensors {', '.join(missing[:5])}", where=str(self._path),
                needed="the recipe and the overrides that it was begun with", value=earlier,
                remedy="name another file for these settings",
            )  # fmt: skip
        self._sample = earlier.sample
        return earlier if earlier.batches else None

    def _statistics(self, *, complete: bool) -> Statistics:
        part = Part(self._shard, self._count, self._digest)
        return Statistics(
            origin=self._origin, parts=(part,), tensors=taken(self._module), sample=self._sample,
            complete=complete,
        )  # fmt: skip


def _other_data(path: Path | None, count: int, seen: str) -> StatisticsError:
    return StatisticsError(
        f"a checkpoint of {count} batches before data that begins with {seen}", where=str(path),
        needed="the same data in the same order", stage="calibrate",
        remedy="pass the data that the checkpoint was begun with, or name another file",
    )  # fmt: skip


def _refuse_incomplete(statistics: Statistics) -> None:
    if not statistics.complete:
        seen = f"statistics of a calibration that was stopped after {statistics.batches} batches"
        remedy = "run it again with the same checkpoint: it goes on where it was"
    elif statistics.missing:
        shown = ", ".join(map(str, statistics.missing[:5]))
        seen, remedy = f"statistics without the shards {shown}", "merge those too"
    elif not statistics.batches:
        seen, remedy = "statistics of no batch", "calibrate with data"
    else:
        return
    raise StatisticsError(
        seen, needed="those of all the data", stage="calibrate", remedy=remedy, value=statistics
    )


def _refuse_missing(module: fx.GraphModule, prepared: PreparedModel) -> None:
    names = needs_data(module)
    if not names:
        return
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    recipes = prepared.plugins.info(prepared.request.backends[0]).recipes
    others = [recipe.name for recipe in recipes if recipe.kernel is not Kernel.STATIC]
    raise CalibrationError(
        "no calibration data", needed=f"batches for the static ranges of {shown}", stage="calibrate",
        remedy="pass batches of real inputs as calibration"
        + (f", or choose a recipe that needs none: {', '.join(others)}" if others else ""),
    )  # fmt: skip


def arguments(batch: Any, signature: Signature, *, what: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call that a batch stands for; ``what`` names it in the error.

    Raises:
        CalibrationError: it is no tensor, tuple, list or mapping.
    """
    if isinstance(batch, Mapping) and not signature.takes_mapping():
        named = dict(batch)
        return tuple(named.pop(name) for name in signature.parameters if name in batch), named
    if isinstance(batch, (tuple, list)):
        return tuple(batch), {}
    if isinstance(batch, (torch.Tensor, Mapping)):
        return (batch,), {}
    raise CalibrationError(
        f"{what} of type {type(batch).__name__}", stage="calibrate", value=batch,
        needed="a tensor, a tuple or list of arguments, or a mapping of arguments by name",
        remedy="convert it first, for example torch.from_numpy(batch)",
    )  # fmt: skip


def _check(args: tuple[Any, ...], kwargs: dict[str, Any], count: int, prepared: PreparedModel) -> list[Any]:
    try:
        flat = prepared.captured.signature.flatten(args, kwargs)
    except InputError as error:
        extra = "; if the loader yields labels too, pass the inputs alone" if len(args) > 1 else ""
        raise InputError(
            f"batch {count}: {error.seen}", needed=error.needed, remedy=error.remedy + extra,
            where=error.where, stage="calibrate", value=error.value,
        ) from error  # fmt: skip
    for name, tensor in zip(prepared.captured.signature.names(), flat):
        if not isinstance(tensor, torch.Tensor):
            continue
        if not _is_finite(tensor):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "Inf"
            raise CalibrationError(
                f"{kind} in the tensor {name!r} of batch {count}", needed="finite numbers",
                stage="calibrate", value=tensor,
                remedy="clean the data, or leave this batch out; an additive mask may hold"
                " torch.finfo(dtype).min in place of -inf",
            )  # fmt: skip
    return flat


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor.detach())
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _digest(flat: list[Any]) -> str:
    """SHA-256 over the tensors of a batch, in hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in flat:
        if isinstance(tensor, torch.Tensor):
            digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(memoryview(tensor.detach().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def _check_ranges(module: fx.GraphModule) -> None:
    for node, observer in of_data(module).values():
        name = observed_name(node)
        seen, nan, beyond = _tally(observer.statistics)
        if seen == 0:
            raise CalibrationError(
                f"no batch reached {name}", needed="data for each observed tensor", stage="calibrate",
                node=name, remedy="add batches that take this path, or keep the node in float",
            )  # fmt: skip
        if nan:
            raise CalibrationError(
                f"{name} became NaN {nan} times while observed",
                needed="finite numbers in each observed tensor", stage="calibrate", node=name,
                remedy="find the operator that makes NaN of these inputs, or keep the node in float",
            )  # fmt: skip
        if beyond:
            raise CalibrationError(
                f"{name} was infinite or beyond ±{HUGE:g} {beyond} times while observed",
                needed="a range that the integers can resolve", stage="calibrate", node=name,
                remedy="if it holds a mask, keep the operators that make and take it in float by overrides;"
                " else find the operator that overflows",
            )  # fmt: skip


def _tally(statistics: RangeSketch | ChannelRange) -> tuple[int, int, int]:
    """How much was observed, how often it was NaN, and how often infinite or a mask's sentinel."""
    if isinstance(statistics, ChannelRange):
        return statistics.minimum.numel(), 0, statistics.excluded
    return statistics.count, statistics.nan, statistics.count - statistics.nan - statistics.ordinary
