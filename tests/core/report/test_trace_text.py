"""Traces as text, and as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from quanthost.errors import ProgramError
from quanthost.report.trace_text import graph_text, save_trace
from quanthost.values.traced_graph import Mark, Trace, TracedGraph, TracedNode

NODE = TracedNode(
    name="conv", operator="aten.conv2d.default", mark=Mark.DELEGATED, line="conv = conv2d(x)",
    tensor="float32 [1, 4]", reason="row conv", partition="npu/0",
)  # fmt: skip
GRAPH = TracedGraph(stage="edge", nodes=(NODE,))
TRACE = Trace(model="Net", backends=("npu",), recipe="int8_static", graphs=(GRAPH,))


def test_a_line_for_each_node() -> None:
    """Its text, and behind it what it is."""
    assert graph_text(GRAPH) == (
        "stage edge\nconv = conv2d(x)  # delegated in npu/0, float32 [1, 4], row conv\n"
    )


def test_files(tmp_path: Path) -> None:
    """Text and picture of each stage in a folder that is made; a file in its place is an error."""
    written = save_trace(TRACE, tmp_path / "new")
    assert [path.name for path in written] == ["1-edge.txt", "1-edge.svg"]
    assert written[0].read_text() == graph_text(GRAPH)
    assert written[1].read_text().startswith("<svg")

    (tmp_path / "file").touch()
    with pytest.raises(ProgramError, match="file"):
        save_trace(TRACE, tmp_path / "file")
