"""Commands that look into decisions: ``why``, ``trace``, ``decisions`` and ``diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quanthost.cli.options import (
    Backends,
    Force,
    Inputs,
    Json,
    Model,
    Options,
    Overrides,
    Placement,
    Recipe,
    policy,
)

__all__ = ["decisions", "diff", "trace", "why"]


def why(
    context: typer.Context,
    model: Model,
    node: Annotated[
        str,
        typer.Argument(
            metavar="NODE", help="A node of the captured graph, an operator, or a module's path as a glob."
        ),
    ],
    backend: Backends,
    recipe: Recipe = None,
    inputs: Inputs = None,
    override: Overrides = None,
    placement: Placement = None,
    lower: Annotated[
        bool, typer.Option("--lower/--no-lower", help="Look at the edge graph too? [default: yes]")
    ] = True,
    json: Json = False,
) -> None:
    """Show each row that was tried for an operator, and where it stopped."""
    from quanthost.cli import settings
    from quanthost.cli.commands.explain_node import Wanted
    from quanthost.cli.commands.explain_node import why as work

    wanted = Wanted(
        model=model, node=node, backend=tuple(backend), recipe=recipe, inputs=inputs,
        override=tuple(settings.parse_override(text) for text in override or ()),
        placement=placement or "cost", lowered=lower, as_json=json,
    )  # fmt: skip
    work(wanted, policy(context))


def trace(
    context: typer.Context,
    model: Model,
    backend: Backends,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write a text and an SVG of each stage there."),
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this stage. Repeat it.")
    ] = None,
    recipe: Recipe = None,
    inputs: Inputs = None,
    override: Overrides = None,
    placement: Placement = None,
    force: Force = None,
    json: Json = False,
) -> None:
    """Show the graph after each stage, each node with what was decided on it."""
    from quanthost.cli import settings
    from quanthost.cli.commands.show_trace import Wanted
    from quanthost.cli.commands.show_trace import trace as work

    wanted = Wanted(
        model=model, backend=tuple(backend), recipe=recipe, inputs=inputs, stages=tuple(stage or ()),
        override=tuple(settings.parse_override(text) for text in override or ()),
        placement=placement or "cost", output=output, force=bool(force), as_json=json,
    )  # fmt: skip
    work(wanted, policy(context))


def decisions(
    context: typer.Context,
    model: Annotated[
        list[str], typer.Argument(metavar="MODULE:CALLABLE…", help="Models, each with its example inputs.")
    ],
    backend: Backends,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.json")],
    recipe: Recipe = None,
    override: Overrides = None,
    placement: Placement = None,
    set_: Options = None,
    force: Force = None,
    json: Json = False,
) -> None:
    """Keep what would be decided on models, for 'diff'; needs no data and lowers nothing."""
    from quanthost.cli import settings
    from quanthost.cli.commands.diff import Wanted
    from quanthost.cli.commands.diff import decisions as work

    wanted = Wanted(
        models=tuple(model), backend=tuple(backend), recipe=recipe, placement=placement or "cost",
        override=tuple(settings.parse_override(text) for text in override or ()),
        options=tuple(settings.parse_options(set_ or ()).items()),
    )  # fmt: skip
    work(wanted, output, policy(context), force=bool(force), as_json=json)


def diff(
    context: typer.Context,
    old: Annotated[
        Path, typer.Argument(metavar="OLD.json", help="What 'decisions' kept, or the record beside a .pte.")
    ],
    new: Annotated[
        Path | None,
        typer.Argument(metavar="[NEW.json]", help="[default: OLD's models with what is installed now]"),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="In place of NEW: OLD's models with this backend."),
    ] = None,
    json: Json = False,
) -> None:
    """Show which decisions two versions of a backend make differently.

    Ends with 4 where decisions differ.
    """
    from quanthost.cli.commands.diff import diff as work
    from quanthost.cli.exits import ExitCode

    if not work(old, new, tuple(backend or ()), policy(context), as_json=json):
        raise typer.Exit(ExitCode.DIFFERENT)
