"""``quanthost trace``: the graph after each stage, as text and as pictures."""

from __future__ import annotations

from pathlib import Path

import attrs

import quanthost
from quanthost import inspection
from quanthost.cli.commands.quantize import Sources
from quanthost.cli.exits import UsageError
from quanthost.cli.output import chatter_on_stderr, refuse_existing, write, write_json, write_text
from quanthost.cli.progress_display import shown
from quanthost.host.discovery import Policy
from quanthost.report.trace_text import graph_text, save_trace, trace_paths
from quanthost.values import Override, to_data
from quanthost.values.traced_graph import Trace

__all__ = ["Wanted", "trace"]


@attrs.frozen(kw_only=True)
class Wanted:
    """All that was typed; no stages are all of them."""

    model: str
    backend: tuple[str, ...]
    recipe: str | None
    inputs: str | None
    override: tuple[Override, ...]
    placement: str
    stages: tuple[str, ...]
    output: Path | None
    force: bool
    as_json: bool


def trace(wanted: Wanted, policy: Policy) -> None:
    """Trace, and print the texts, or write texts and pictures into a folder.

    Raises:
        UsageError: a file exists, a stage is unknown, or something that was typed cannot be understood.
        QuanthostError: the model cannot be captured or prepared.
    """
    sources = Sources.of(wanted.model, wanted.inputs, None)
    with chatter_on_stderr(), shown() as progress:
        with progress.stage("load"):
            model, inputs, _ = sources.load(wanted.backend, policy)
        with progress.stage("trace"):
            found = inspection.trace(
                quanthost.capture(model, inputs), wanted.backend, wanted.recipe, wanted.override,
                placement=wanted.placement, policy=policy,
            )  # fmt: skip
            progress.note(found.note)
    found = _selected(found, wanted.stages)
    if wanted.output is not None:
        _save(found, wanted.output, force=wanted.force)
    if wanted.as_json:
        write_json(to_data(found))
    elif wanted.output is None:
        write_text("\n".join(map(graph_text, found.graphs)).removesuffix("\n"))


def _selected(found: Trace, stages: tuple[str, ...]) -> Trace:
    known = [graph.stage for graph in found.graphs]
    for stage in stages:
        if stage not in known:
            raise UsageError(
                f"the stage {stage!r}", needed="one of " + ", ".join(known), where="--stage", value=stage,
                remedy="choose one of these" + (f"; {found.note}" if found.note else ""),
            )  # fmt: skip
    kept = [graph for graph in found.graphs if not stages or graph.stage in stages]
    return attrs.evolve(found, graphs=kept)


def _save(found: Trace, folder: Path, *, force: bool) -> None:
    if folder.exists():
        refuse_existing(*trace_paths(found, folder), force=force)
    for path in save_trace(found, folder):
        if path.suffix == ".svg":
            write(f"{path.with_suffix('.txt')}, {path.name}")
