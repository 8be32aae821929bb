"""``quanthost golden``: the exact integer form of a model beside a backend's program or a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quanthost.cli.exits import ExitCode
from quanthost.cli.options import (
    Arithmetic,
    Calibration,
    DynamicShapes,
    Inputs,
    Json,
    Model,
    TargetOptions,
    takes_target,
)

if TYPE_CHECKING:
    from quanthost.stages.records import CalibratedModel

__all__ = ["golden"]


@takes_target
def golden(
    options: TargetOptions,
    model: Model,
    samples: Annotated[
        str,
        typer.Option(
            "--samples", "-s", metavar="MODULE:CALLABLE|FILE|DIR", help="Inputs to compare on, as batches."
        ),
    ],
    calibration: Calibration = None,
    inputs: Inputs = None,
    dynamic_shapes: DynamicShapes = None,
    arithmetic: Arithmetic = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .pte, or what a device recorded as .npz or .safetensors."
            " [default: the backend's own program]",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every operator.")] = False,
    json: Json = False,
) -> None:
    """Compare a model's exact integer form with a program or a recording, bit by bit.

    Ends with 4 where integers differ.
    """
    import quanthost
    from quanthost import inspection
    from quanthost.cli.output import chatter_on_stderr, write, write_json
    from quanthost.cli.progress_display import show_progress
    from quanthost.cli.sources import Sources, batches, data_source

    settings = options.settings(
        inputs=inputs, dynamic_shapes=dynamic_shapes, calibration=calibration, arithmetic=arithmetic
    )
    sources = Sources.of(model, settings)
    sample_source = data_source(samples, where="--samples")
    with chatter_on_stderr(), show_progress() as progress:
        with progress.stage("load"):
            network, examples, data = sources.load(options.target)
            compared = list(batches(sample_source, network, examples, where="--samples"))
        with progress.stage("prepare"):
            prepared = quanthost.prepare(
                quanthost.capture(network, examples, dynamic_shapes=sources.shapes()), options.target
            )
        with progress.stage("calibrate"):
            calibrated = quanthost.calibrate(prepared, data, progress)
        with progress.stage("convert"):
            exact = quanthost.convert(calibrated, "integer", settings.get("arithmetic"))
        with progress.stage("compare"):
            comparison = inspection.compare_bits(exact, _other(against, calibrated), compared)
    from quanthost.report.bits_text import bits_table, verdict

    if json:
        from quanthost.values import to_data

        write_json({"equal": comparison.equal, "verdict": verdict(comparison), **to_data(comparison)})
    else:
        write(bits_table(comparison, everything=everything), "", verdict(comparison))
    if not comparison.equal:
        raise typer.Exit(ExitCode.DIFFERENT)


def _other(against: Path | None, calibrated: CalibratedModel) -> Any:
    """What the integer form is compared with: a program, or the path of a recording."""
    import quanthost

    if against is None:
        return quanthost.lower(quanthost.convert(calibrated), intermediates=True)
    return quanthost.load(against) if against.suffix == ".pte" else against
