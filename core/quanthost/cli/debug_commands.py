"""Commands that look into decisions: ``why``."""

from __future__ import annotations

from typing import Annotated

import typer

from quanthost.cli.options import Backends, Inputs, Json, Model, Overrides, Placement, Recipe, policy

__all__ = ["why"]


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
    from quanthost.cli.why import Wanted
    from quanthost.cli.why import why as work

    wanted = Wanted(
        model=model, node=node, backend=tuple(backend), recipe=recipe, inputs=inputs,
        override=tuple(settings.parse_override(text) for text in override or ()),
        placement=placement or "cost", lowered=lower, as_json=json,
    )  # fmt: skip
    work(wanted, policy(context))
