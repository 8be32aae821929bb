"""Traces: what they refuse, and the way to JSON and back."""

from __future__ import annotations

import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import from_json, to_json
from quanthost.values.traced_graph import Mark, Trace, TracedGraph, TracedNode

NODE = TracedNode(name="x", operator="", mark=Mark.INPUT, line="x = input()", inputs=["y"])
TRACE = Trace(
    model="Net", backends=["npu"], recipe="int8_static", graphs=[TracedGraph(stage="captured", nodes=[NODE])]
)


def test_json_and_back() -> None:
    """Equal, with tuples where lists were given."""
    assert from_json(Trace, to_json(TRACE)) == TRACE
    assert TRACE.graphs[0].nodes[0].inputs == ("y",)


def test_fields_are_checked() -> None:
    """A mark is a member of the enum, not its text."""
    with pytest.raises(ValueCheckError, match="mark"):
        TracedNode(name="x", operator="", mark="input", line="x")
