"""Traces as text, and as folders of text and SVG files."""

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
    """A line for each node: its stable text, and after ``#`` its mark, tensor and reason."""
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
    files: dict[Path, str] = {}
    for number, graph in enumerate(trace.graphs, 1):
        stem = Path(folder) / f"{number}-{graph.stage}"
        files[stem.with_suffix(".txt")] = graph_text(graph)
        files[stem.with_suffix(".svg")] = picture(graph, title)
    return files


def save_trace(trace: Trace, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write a text and a picture of each stage to a folder, create it if needed, and return the paths.

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
            f"{folder}: {error.strerror or error}", needed="a writable folder", stage="trace",
            remedy="name another folder", value=folder,
        ) from error  # fmt: skip
    return tuple(files)
