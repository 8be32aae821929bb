"""``quanthost calibrate``: range statistics of data, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quanthost.cli.options import (
    Calibration,
    DynamicShapes,
    Force,
    Inputs,
    Json,
    Model,
    TargetOptions,
    takes_target,
)
from quanthost.cli.usage import UsageError, refuse_existing

if TYPE_CHECKING:
    from quanthost import Statistics

__all__ = ["StatisticsFile", "calibrate", "check_name", "show_statistics"]

_SUFFIX = ".safetensors"
StatisticsFile = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.safetensors")]


@takes_target
def calibrate(
    options: TargetOptions,
    model: Model,
    output: StatisticsFile,
    calibration: Calibration = None,
    shard: Annotated[
        str | None, typer.Option(metavar="3/16", help="Only the third of each sixteen batches.")
    ] = None,
    inputs: Inputs = None,
    dynamic_shapes: DynamicShapes = None,
    force: Force = None,
    json: Json = False,
) -> None:
    """Collect range statistics from data, or resume a stopped run."""
    import quanthost
    from quanthost.cli.output import chatter_on_stderr
    from quanthost.cli.progress_display import show_progress
    from quanthost.cli.settings import require
    from quanthost.cli.sources import Sources
    from quanthost.stages.calibrating.statistics import Shard

    settings = options.settings(inputs=inputs, dynamic_shapes=dynamic_shapes, calibration=calibration)
    require(settings, calibration="--calibration")
    check_name(output)
    part = None if shard is None else Shard.of(shard)
    _make_room(output, force=bool(force))
    sources = Sources.of(model, settings)
    with chatter_on_stderr(), show_progress() as progress:
        with progress.stage("load"):
            network, examples, data = sources.load(options.target)
        with progress.stage("prepare"):
            prepared = quanthost.prepare(
                quanthost.capture(network, examples, dynamic_shapes=sources.shapes()), options.target
            )
        with progress.stage("calibrate"):
            statistics = quanthost.collect_statistics(prepared, data, progress, shard=part, checkpoint=output)
    show_statistics(statistics, output, as_json=json)


def _make_room(output: Path, *, force: bool) -> None:
    """Refuse a complete file, and leave that of a stopped run, which is resumed; ``force`` removes either."""
    from quanthost import Statistics

    if force:
        refuse_existing(output, force=True)
        output.unlink(missing_ok=True)
    elif not output.is_file() or Statistics.load(output).complete:
        refuse_existing(output, force=False)


def check_name(output: Path) -> None:
    """Refuse another suffix than that of statistics.

    Raises:
        UsageError: it is another one.
    """
    if output.suffix != _SUFFIX:
        raise UsageError(
            f"the output {output}", needed=f"a name that ends in {_SUFFIX}", where="--output",
            remedy=f"name it {output.with_suffix(_SUFFIX)}", value=output,
        )  # fmt: skip


def show_statistics(statistics: Statistics, path: Path, *, as_json: bool) -> None:
    """Write what a file of statistics holds: batches, tensors and shards."""
    from quanthost.cli.output import write, write_json

    shards = [str(part.shard) for part in statistics.parts if part.shard is not None]
    if as_json:
        write_json({
            "statistics": str(path), "batches": statistics.batches, "tensors": len(statistics.tensors),
            "shards": shards, "missing": list(map(str, statistics.missing)), "data": statistics.data_digest,
        })  # fmt: skip
        return
    share = f", shard {', '.join(shards)}" if shards else ""
    write(f"{path}: {statistics.batches} batches, {len(statistics.tensors)} tensors{share}")
