"""Commands on range statistics: ``calibrate`` and ``merge-stats``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quanthost.cli.options import Backends, Force, Inputs, Json, Model, Overrides, Placement, Recipe, policy

__all__ = ["calibrate", "merge_stats"]

_Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.safetensors")]


def calibrate(
    context: typer.Context,
    model: Model,
    backend: Backends,
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration", "-c", metavar="MODULE:CALLABLE|FILE|DIR", help="The batches, all of them."
        ),
    ],
    output: _Output,
    shard: Annotated[
        str | None, typer.Option(metavar="3/16", help="Only the third of each sixteen batches.")
    ] = None,
    recipe: Recipe = None,
    inputs: Inputs = None,
    override: Overrides = None,
    placement: Placement = None,
    force: Force = None,
    json: Json = False,
) -> None:
    """Collect range statistics from data, or go on where a stopped run left off."""
    from quanthost.cli import settings
    from quanthost.cli.commands.range_statistics import Wanted, collect

    wanted = Wanted(
        model=model, backend=tuple(backend), calibration=calibration, inputs=inputs, recipe=recipe,
        shard=shard, output=output, override=tuple(settings.parse_override(text) for text in override or ()),
        placement=placement or "cost", force=bool(force), as_json=json,
    )  # fmt: skip
    collect(wanted, policy(context))


def merge_stats(
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART…", help="What 'calibrate' saved of each shard.")
    ],
    output: _Output,
    force: Force = None,
    json: Json = False,
) -> None:
    """Merge the statistics of all shards, as if one process had seen the data."""
    from quanthost.cli.commands.range_statistics import merge

    merge(parts, output, force=bool(force), as_json=json)
