"""``calibrate``: runs real data through the observed graph, and refuses data that gives no usable range."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import fx

from quanthost.arith.channel_range import ChannelRange, RangeStatistics
from quanthost.arith.sketch import HUGE
from quanthost.errors import CalibrationError, NoDataError, QuanthostError, StatisticsError
from quanthost.stages.calibrating import ranks
from quanthost.stages.calibrating.batches import digest_of_batch, flat_batch
from quanthost.stages.calibrating.collection import Collection
from quanthost.stages.calibrating.observing import (
    data_observers,
    load_statistics,
    observe_constants,
    observed_name,
    source_of_statistics,
    tensors_that_need_data,
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
    """Observe every batch, or use statistics that were collected before.

    A batch is a tensor, a tuple or list of positional arguments, or a mapping of arguments by name;
    shapes and dtypes are those of the captured signature. ``None`` is enough if the recipe needs no data.
    Under ``torchrun`` each rank observes its shard of the batches, and all ranks get the same result.

    Args:
        prepared: What ``prepare`` returned.
        batches: The data, or statistics of this model.
        progress: Receives each batch.
        checkpoint: See ``collect_statistics``.

    Raises:
        CalibrationError: there is no batch; a batch or an observed tensor holds NaN or Inf (the error names
            tensor and batch); an observed tensor holds numbers beyond ±1e30, or no batch reaches it.
        InputError: a batch differs from the captured signature.
        StatisticsError: the statistics belong to another model, or lack a tensor or a shard of the data.
    """
    module = deep_copy(prepared.module)
    if batches is None:
        _refuse_missing(module, prepared)
        observe_constants(module)
        return CalibratedModel(prepared=prepared, module=module)
    if isinstance(batches, Statistics):
        _refuse_incomplete(batches)
        batches.check_source(source_of_statistics(prepared))
    else:
        batches = _collect(prepared, module, batches, progress, None, checkpoint)
        _refuse_incomplete(batches)
    missing = load_statistics(module, batches.tensors)
    if missing:
        raise StatisticsError(
            f"statistics without the tensors {', '.join(missing[:5])}", stage="calibrate", value=batches,
            needed="a range for each quantized tensor",
            remedy="collect statistics with the recipe and the overrides that you convert with",
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
    """Observe every batch of a shard of the data, and return the statistics.

    Args:
        prepared: What ``prepare`` returned.
        batches: All of the data, in the same order in each process.
        progress: Receives each batch.
        shard: ``"3/16"`` observes the third of every sixteen batches. Under ``torchrun``, ``None`` means the
            shard of the rank, and each rank returns the statistics of all ranks.
        checkpoint: A file to which the statistics are written every ten seconds, and at the end. If it
            exists, calibration resumes from it; the data must begin with the same batches.
        unsaved: Called with the error if the checkpoint cannot be written; calibration then continues
            without a checkpoint. If ``None``, the error is raised.

    Raises:
        CalibrationError: there is no batch and no shard; a batch holds NaN or Inf; another rank failed.
        InputError: a batch differs from the captured signature.
        StatisticsError: the checkpoint belongs to another model, shard or data.
    """
    shard = Shard.of(shard) if isinstance(shard, str) else shard
    return _collect(prepared, deep_copy(prepared.module), batches, progress, shard, checkpoint, unsaved)


def digest_of_data(prepared: PreparedModel, batches: Iterable[Any]) -> str:
    """The ``data_digest`` of statistics of these batches, without running the model.

    Raises:
        CalibrationError: a batch holds NaN or Inf.
        InputError: a batch differs from the captured signature.
    """
    total = sum_of_digests()
    for number, batch in enumerate(batches, start=1):
        total = sum_of_digests(total, digest_of_batch(flat_batch(batch, prepared.captured.signature, number)))
    return f"sha256:{total}"


def _collect(
    prepared: PreparedModel,
    module: fx.GraphModule,
    batches: Iterable[Any],
    progress: Progress | None,
    shard: Shard | None,
    checkpoint: Path | str | None,
    unsaved: Callable[[StatisticsError], None] | None = None,
) -> Statistics:
    with ranks.process_group() as group:
        if shard is None and group is not None:
            shard = Shard(group.rank + 1, group.size)
        try:
            collection = Collection(prepared, module, shard, checkpoint, unsaved)
            statistics = collection.run(batches, progress or silent())
        except QuanthostError as error:
            if group is not None:
                group.report_failure(error)
            raise
        return statistics if group is None else group.merge(statistics)


def _refuse_incomplete(statistics: Statistics) -> None:
    if not statistics.complete:
        problem = f"statistics of a calibration that was stopped after {statistics.batches} batches"
        remedy = "run it again with the same checkpoint: it resumes"
    elif statistics.missing:
        shown = ", ".join(map(str, statistics.missing[:5]))
        problem, remedy = f"statistics without the shards {shown}", "merge these shards too"
    elif not statistics.batches:
        problem, remedy = "statistics of no batch", "calibrate with data"
    else:
        return
    raise StatisticsError(
        problem, needed="statistics of all the data", stage="calibrate", remedy=remedy, value=statistics
    )


def _refuse_missing(module: fx.GraphModule, prepared: PreparedModel) -> None:
    names = tensors_that_need_data(module)
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
    for node, observer in data_observers(module).values():
        name = observed_name(node)
        total, nan, beyond = _counts(observer.statistics)
        if total == 0:
            raise NoDataError(
                f"no batch reached {name}", needed="data for each observed tensor", stage="calibrate",
                node=name, remedy="add batches that take this path, or keep the node in float",
            )  # fmt: skip
        if nan:
            raise CalibrationError(
                f"{name} became NaN {nan} times while observed",
                needed="finite numbers in each observed tensor", stage="calibrate", node=name,
                remedy="find the operator that turns these inputs into NaN, or keep the node in float",
            )  # fmt: skip
        if beyond:
            raise CalibrationError(
                f"{name} was infinite or beyond ±{HUGE:g} {beyond} times while observed",
                needed="a range that the integers can resolve", stage="calibrate", node=name,
                remedy="if it holds a mask, keep the operators that produce and read it in float;"
                " else find the operator that overflows",
            )  # fmt: skip


def _counts(statistics: RangeStatistics) -> tuple[int, int, int]:
    """How many values were observed, how many were NaN, and how many infinite or mask sentinels."""
    if isinstance(statistics, ChannelRange):
        return statistics.minimum.numel(), 0, statistics.excluded
    return statistics.count, statistics.nan, statistics.count - statistics.nan - statistics.ordinary
