"""``quanthost quantize``: a model by reference, through all five stages, to a ``.pte`` with its record."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quanthost.cli.options import (
    Arithmetic,
    Calibration,
    DynamicShapes,
    Force,
    Inputs,
    Json,
    ModelOrConfig,
    TargetOptions,
    takes_target,
)
from quanthost.cli.usage import UsageError, refuse_existing

if TYPE_CHECKING:
    from quanthost import LoweredProgram
    from quanthost.host.target import Target

__all__ = ["quantize"]


# settings that are keywords of quanthost.quantize
_PASSED_ON = ("representation", "arithmetic", "io", "cache", "allow_missing_kernels")


@takes_target
def quantize(
    options: TargetOptions,
    model: ModelOrConfig = None,
    calibration: Calibration = None,
    statistics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What 'calibrate' or 'merge-stats' saved, in place of data."),
    ] = None,
    inputs: Inputs = None,
    dynamic_shapes: DynamicShapes = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.pte", help="A .json is put beside it.")
    ] = None,
    representation: Annotated[
        str | None, typer.Option(metavar="qdq|reference|integer", help="Form of the graph. [default: qdq]")
    ] = None,
    arithmetic: Arithmetic = None,
    io: Annotated[
        str | None,
        typer.Option(metavar="float|int8|…", help="What inputs and outputs are. [default: float]"),
    ] = None,
    allow_missing_kernels: Annotated[
        bool | None,
        typer.Option("--allow-missing-kernels", help="For a runtime with more kernels than the one here."),
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="table|json|none", help="What to write to stdout. [default: table]")
    ] = None,
    cache: Annotated[
        bool | None,
        typer.Option("--cache/--no-cache", help="Keep statistics and programs for reuse? [default: no]"),
    ] = None,
    force: Force = None,
    json: Json = False,
) -> None:
    """Make a .pte from a model."""
    if json and report not in (None, "json"):
        raise UsageError(
            f"--json with --report {report}", needed="one of them", where="command line",
            remedy="leave one of them out",
        )  # fmt: skip
    settings = options.settings(
        model=model, calibration=calibration, statistics=statistics, inputs=inputs,
        dynamic_shapes=dynamic_shapes, output=output,
        representation=representation, arithmetic=arithmetic, io=io, report="json" if json else report,
        cache=cache, force=force, allow_missing_kernels=allow_missing_kernels,
    )  # fmt: skip
    _quantize(options.target, settings)


def _quantize(target: Target, settings: dict[str, Any]) -> None:
    import quanthost
    from quanthost.cli.output import chatter_on_stderr
    from quanthost.cli.progress_display import show_progress
    from quanthost.cli.settings import Report, require
    from quanthost.cli.sources import Sources

    require(settings, model="the argument MODEL", output="--output")
    output, statistics = settings["output"], settings.get("statistics")
    _check_files(output, statistics, settings)
    sources = Sources.of(settings["model"], settings)
    more = {key: settings[key] for key in _PASSED_ON if key in settings}
    with chatter_on_stderr(), show_progress() as progress, _gathered_warnings() as gathered:
        with progress.stage("load"):
            model, inputs, data = sources.load(target)
            if statistics is not None:
                data = quanthost.Statistics.load(statistics)
        program = quanthost.quantize(
            model, inputs, target, calibration=data, dynamic_shapes=sources.shapes(), progress=progress,
            **more,
        )  # fmt: skip
        program.save(output)
    _note_unused_data(sources.calibration, program)
    report = settings.get("report", Report.TABLE)
    # the table has the findings
    shown = set(map(str, program.record.findings)) if report is Report.TABLE else set()
    for text in gathered:
        if text not in shown:
            print(f"warning: {text}", file=sys.stderr)
    if report is not Report.NONE:
        from quanthost.cli.commands.inspect import show_program

        show_program(output, as_json=report is Report.JSON)


@contextlib.contextmanager
def _gathered_warnings() -> Iterator[list[str]]:
    """While entered, quanthost's own warnings go to the list, in order; others are shown as they come."""
    from quanthost.caller_warning import QuanthostWarning

    gathered: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", QuanthostWarning)
        show = warnings.showwarning

        def gather(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, QuanthostWarning):
                gathered.append(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = gather
        yield gathered


def _check_files(output: Path, statistics: Path | None, settings: dict[str, Any]) -> None:
    if output.suffix != ".pte":
        raise UsageError(
            f"the output {output}", where="--output", value=output,
            needed="a name that ends in .pte, since the record beside it ends in .json",
            remedy=f"name it {output.with_suffix('.pte')}",
        )  # fmt: skip
    refuse_existing(output, output.with_suffix(".json"), force=settings.get("force", False))
    if statistics is not None and "calibration" in settings:
        raise UsageError(
            "--statistics beside --calibration", needed="one of them", where="command line",
            remedy="leave one of them out", value=statistics,
        )  # fmt: skip


def _note_unused_data(source: object, program: LoweredProgram) -> None:
    if source is not None and not program.record.data_digest:
        recipe = program.record.recipe
        print(f"note: the recipe {recipe} needs no data; {source} was not used", file=sys.stderr)
