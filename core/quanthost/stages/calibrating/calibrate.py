"""``calibrate``: run real data through the observed graph, and refuse data that cannot give ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import fx

from quanthost.arith.sketch import HUGE, ChannelRange, Measured
from quanthost.errors import CalibrationError, NoDataError, QuanthostError, StatisticsError
from quanthost.stages.calibrating import ranks
from quanthost.stages.calibrating.batches import digest_of_batch, flat_batch
from quanthost.stages.calibrating.collection import Collection
from quanthost.stages.calibrating.observing import (
    give,
    needs_data,
    observe_constants,
    observed_name,
    of_data,
    origin_of,
)
from quanthost.stages.calibrating.statistics import Shard, Statistics, sum_of_digests
from quanthost.stages.progress import Progress, silent
from quanthost.stages.records import CalibratedModel, PreparedModel
from quanthost.toolchain.pt2e import deep_copy
from quanthost.values import Kernel

__all__ = ["calibrate", "collect_statistics", "digest_of_data"]


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
        total = sum_of_digests(total, digest_of_batch(flat_batch(batch, prepared.captured.signature, number)))
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
            found = Collection(prepared, module, mine, checkpoint, unsaved).run(batches, progress or silent())
        except QuanthostError as error:
            if group is not None:
                group.tell(error)
            raise
        return found if group is None else group.merged(found)


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


def _check_ranges(module: fx.GraphModule) -> None:
    for node, observer in of_data(module).values():
        name = observed_name(node)
        seen, nan, beyond = _tally(observer.statistics)
        if seen == 0:
            raise NoDataError(
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


def _tally(statistics: Measured) -> tuple[int, int, int]:
    """How much was observed, how often it was NaN, and how often infinite or a mask's sentinel."""
    if isinstance(statistics, ChannelRange):
        return statistics.minimum.numel(), 0, statistics.excluded
    return statistics.count, statistics.nan, statistics.count - statistics.nan - statistics.ordinary
