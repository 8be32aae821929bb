"""Traces as text, and as files of text and pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from quanthost.errors import ProgramError
from quanthost.report.picture import picture
from quanthost.stages.whole_files import write_whole
from quanthost.values.traced_graph import Trace, TracedGraph, TracedNode

__all__ = ["graph_text", "save_trace", "trace_paths"]


def graph_text(graph: TracedGraph) -> str:
    """A line for each node: its stable text, and behind ``#`` what it is, its tensor and the reason."""
    lines = (f"{node.line}  # {', '.join(_facts(node))}" for node in graph.nodes)
    return "\n".join((f"stage {graph.stage}", *lines)) + "\n"


def _facts(node: TracedNode) -> Iterator[str]:
    yield node.mark.value if node.partition is None else f"{node.mark.value} in {node.partition}"
    if node.tensor:
        yield node.tensor
    if node.reason:
        yield node.reason


def trace_paths(trace: Trace, folder: str | os.PathLike[str]) -> dict[Path, str]:
    """The files of a trace with their contents: ``1-captured.txt``, ``1-captured.svg``, and so on."""
    title = f"{trace.model} for {' and '.join(trace.backends)} ({trace.recipe})"
    found: dict[Path, str] = {}
    for number, graph in enumerate(trace.graphs, 1):
        stem = Path(folder) / f"{number}-{graph.stage}"
        found[stem.with_suffix(".txt")] = graph_text(graph)
        found[stem.with_suffix(".svg")] = picture(graph, title)
    return found


def save_trace(trace: Trace, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write a text and a picture of each stage into a folder, which is made; the paths that were written.

    Raises:
        ProgramError: a file cannot be written.
    """
    files = trace_paths(trace, folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            write_whole(path, content.encode())
    except OSError as error:
        raise ProgramError(
            f"{folder}: {error.strerror or error}", needed="a folder that can be written to", stage="trace",
            remedy="name another folder", value=folder,
        ) from error  # fmt: skip
    return tuple(files)
