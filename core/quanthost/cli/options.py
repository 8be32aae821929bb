"""Options that several commands have, and what a command reads of the context."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = [
    "ALLOWED",
    "Arithmetic",
    "Backends",
    "Calibration",
    "Force",
    "Inputs",
    "Json",
    "Model",
    "Options",
    "Overrides",
    "Placement",
    "Recipe",
    "policy",
]

ALLOWED = "--backends-allowed"

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout and nothing else.")]
Arithmetic = Annotated[
    str | None,
    typer.Option(metavar="PROFILE", help="How integers are rescaled. [default: the backend's own]"),
]
Placement = Annotated[
    str | None,
    typer.Option(metavar="cost|all", help="Quantize what gains nothing by itself? [default: cost]"),
]
Force = Annotated[bool | None, typer.Option("--force", help="Replace output files that exist.")]
Model = Annotated[str, typer.Argument(metavar="MODULE:CALLABLE", help="As for 'quantize'.")]
Backends = Annotated[list[str], typer.Option("--backend", "-b", help="As for 'quantize'.")]
Recipe = Annotated[str | None, typer.Option("--recipe", "-r")]
Calibration = Annotated[str | None, typer.Option("--calibration", "-c", metavar="MODULE:CALLABLE|FILE|DIR")]
Inputs = Annotated[str | None, typer.Option(metavar="MODULE:CALLABLE")]
Options = Annotated[
    list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Option of the backend.")
]
Overrides = Annotated[list[str] | None, typer.Option("--override", metavar="FIELD=VALUE,…")]


def policy(context: typer.Context) -> Any:
    """Which backends may be imported."""
    from quanthost.host.discovery import Policy

    return Policy.of(context.obj[ALLOWED])
