"""``quanthost why``: each row that was tried for an operator, and where it stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from quanthost.cli.options import DynamicShapes, Inputs, Json, Model, TargetOptions, takes_target

__all__ = ["why"]


@takes_target
def why(
    options: TargetOptions,
    model: Model,
    node: Annotated[
        str,
        typer.Argument(
            metavar="NODE", help="A node of the captured graph, an operator, or a module's path as a glob."
        ),
    ],
    inputs: Inputs = None,
    dynamic_shapes: DynamicShapes = None,
    lower: Annotated[bool, typer.Option("--lower/--no-lower", help="Look at the edge graph too?")] = True,
    json: Json = False,
) -> None:
    """Show each row that was tried for an operator, and where it stopped.

    Give the options of the run that you want explained.
    """
    import quanthost
    from quanthost import inspection
    from quanthost.cli.output import chatter_on_stderr, write, write_json
    from quanthost.cli.progress_display import show_progress
    from quanthost.cli.sources import Sources

    target = options.target
    sources = Sources.of(model, options.settings(inputs=inputs, dynamic_shapes=dynamic_shapes))
    with chatter_on_stderr(), show_progress() as progress:
        with progress.stage("load"):
            network, examples, _ = sources.load(target)
        with progress.stage("explain"):
            captured = quanthost.capture(network, examples, dynamic_shapes=sources.shapes())
            explanation = inspection.why(captured, node, target, lowered=lower)
    if json:
        from quanthost.values import to_data

        write_json(to_data(explanation))
    else:
        from quanthost.report.why_text import explanation as explanation_text

        write(*explanation_text(explanation))
