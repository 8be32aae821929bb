"""``quanthost trace``: the graph after each stage, as text and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quanthost.cli.options import DynamicShapes, Force, Inputs, Json, Model, TargetOptions, takes_target
from quanthost.cli.usage import UsageError, refuse_existing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quanthost.values.traced_graph import Trace

__all__ = ["trace"]


@takes_target
def trace(
    options: TargetOptions,
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write a text and an SVG of each stage there."),
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this stage. Repeat it.")
    ] = None,
    inputs: Inputs = None,
    dynamic_shapes: DynamicShapes = None,
    force: Force = None,
    json: Json = False,
) -> None:
    """Show the graph after each stage, each node with the decision on it."""
    import quanthost
    from quanthost import inspection
    from quanthost.cli.output import chatter_on_stderr, write_json, write_text
    from quanthost.cli.progress_display import show_progress
    from quanthost.cli.sources import Sources

    settings = options.settings(inputs=inputs, dynamic_shapes=dynamic_shapes)
    sources = Sources.of(model, settings)
    with chatter_on_stderr(), show_progress() as progress:
        with progress.stage("load"):
            network, examples, _ = sources.load(options.target)
        with progress.stage("trace"):
            traced = inspection.trace(
                quanthost.capture(network, examples, dynamic_shapes=sources.shapes()), options.target
            )
            progress.note(traced.note)
    traced = _select(traced, stage or ())
    if output is not None:
        _save(traced, output, force=bool(force))
    if json:
        from quanthost.values import to_data

        write_json(to_data(traced))
    elif output is None:
        from quanthost.report.trace_text import graph_text

        write_text("\n".join(map(graph_text, traced.graphs)).removesuffix("\n"))


def _select(traced: Trace, stages: Sequence[str]) -> Trace:
    names = [graph.stage for graph in traced.graphs]
    for stage in stages:
        if stage not in names:
            raise UsageError(
                f"the stage {stage!r}", needed="one of " + ", ".join(names), where="--stage", value=stage,
                remedy="choose one of these" + (f"; {traced.note}" if traced.note else ""),
            )  # fmt: skip
    graphs = [graph for graph in traced.graphs if not stages or graph.stage in stages]
    # late: help is shown without attrs
    import attrs

    return attrs.evolve(traced, graphs=graphs)


def _save(traced: Trace, folder: Path, *, force: bool) -> None:
    from quanthost.cli.output import write
    from quanthost.report.trace_text import save_trace, trace_paths

    if folder.exists():
        refuse_existing(*trace_paths(traced, folder), force=force)
    for path in save_trace(traced, folder):
        if path.suffix == ".svg":
            write(f"{path.with_suffix('.txt')}, {path.name}")
