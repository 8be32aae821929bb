"""``trace``: the graphs after each stage, marked as the decisions and partitions say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from flow_nets import BACKEND, images, seeded
from torch import nn

import quanthost
from quanthost import inspection
from quanthost.api import TableBackend, hookimpl
from quanthost.debugging import trace as stage
from quanthost.errors import RequestError
from quanthost.hooks.manager import Plugins
from quanthost.host.requests import resolve
from quanthost.host.target import Target
from quanthost.values import Request, Verdict, from_json, to_json
from quanthost.values.traced_graph import Mark, Trace, TracedGraph, TracedNode

IMAGE = images(1)[0]
STAGES = ["captured", "transformed", "prepared", "converted", "edge", "delegated"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4)
        seeded(self)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.head(torch.relu(self.norm(self.stem(x))).mean((2, 3)))
        return torch.cumsum(scores, 1), torch.sin(scores)


@pytest.fixture(scope="module")
def captured() -> quanthost.stages.capturing.capture.CapturedModel:
    return quanthost.capture(Net(), (IMAGE,))


@pytest.fixture(scope="module")
def traced(captured: Any) -> Trace:
    return inspection.trace(captured, BACKEND)


def nodes(traced: Trace, name: str) -> dict[str, TracedNode]:
    (graph,) = (graph for graph in traced.graphs if graph.stage == name)
    return {node.name: node for node in graph.nodes}


def marks(graph: TracedGraph) -> Counter[Mark]:
    return Counter(node.mark for node in graph.nodes)


def test_all_stages_are_there(traced: Trace) -> None:
    """In order, and without a note."""
    assert [graph.stage for graph in traced.graphs] == STAGES
    assert traced.note == ""
    assert from_json(Trace, to_json(traced)) == traced


def test_it_is_the_same_every_time(captured: Any, traced: Trace) -> None:
    """Names, order and text do not depend on the run."""
    assert inspection.trace(captured, BACKEND) == traced


def test_the_captured_graph_has_the_decisions(captured: Any, traced: Trace) -> None:
    """Each call node as it was decided, with the reason; weights are constants."""
    decided = {d.node: d for d in quanthost.prepare(captured, BACKEND).decisions}
    kinds = {Verdict.QUANTIZED: Mark.QUANTIZED, Verdict.FLOAT: Mark.FLOAT, Verdict.FOLDED: Mark.FOLDED}
    found = nodes(traced, "captured")
    for name, decision in decided.items():
        assert (found[name].mark, found[name].reason) == (kinds[decision.verdict], decision.reason)
    assert found["p_stem_weight"].mark is Mark.CONSTANT
    assert found["p_stem_weight"].tensor == "float32[4, 3, 3, 3]"
    assert found["batch_norm"].mark is Mark.FOLDED
    assert found["conv2d"].inputs == ("x", "p_stem_weight", "p_stem_bias")
    assert found["conv2d"].line == "conv2d = aten.conv2d.default(%x, %p_stem_weight, %p_stem_bias)"


def test_what_the_stages_insert_is_marked(traced: Trace) -> None:
    """Observers when prepared, conversions when converted; a rewritten operator keeps its decision."""
    assert "batch_norm" not in nodes(traced, "transformed")
    assert nodes(traced, "transformed")["relu"].mark is Mark.QUANTIZED
    prepared, converted = (marks(graph) for graph in traced.graphs[2:4])
    assert prepared[Mark.OBSERVER] > 0
    assert prepared[Mark.CONVERSION] == 0
    assert converted[Mark.OBSERVER] == 0
    assert converted[Mark.CONVERSION] > prepared[Mark.OBSERVER]


def test_the_edge_graph_has_the_partitions(captured: Any, traced: Trace) -> None:
    """What is tagged is delegated; in the end the delegate is one node; the rest is outside."""
    edge, last = nodes(traced, "edge"), nodes(traced, "delegated")
    assert (edge["convolution"].mark, edge["convolution"].partition) == (Mark.DELEGATED, "xnnpack_like_0")
    assert edge["cumsum"].mark is Mark.OUTSIDE
    assert edge["cumsum"].reason.startswith("xnnpack_like has no int8 kernel for")
    calls = [node for node in last.values() if node.mark is Mark.DELEGATE and "operators" in node.reason]
    inside = sum(node.mark is Mark.DELEGATED for node in edge.values())
    assert [node.reason for node in calls] == [f"XnnpackBackend, {inside} operators"]
    assert [node.name for node in last.values() if node.mark is Mark.OUTSIDE] == ["cumsum"]


def test_without_a_delegate_there_is_no_edge_of_a_partitioner(captured: Any) -> None:
    """Only what is left in the end, all of it outside or conversions."""
    found = inspection.trace(captured, "int8_reference")
    assert [graph.stage for graph in found.graphs] == [*STAGES[:4], "delegated"]
    assert marks(found.graphs[-1])[Mark.DELEGATE] == 0


def test_each_partitioner_has_an_edge_graph(captured: Any) -> None:
    """Of two backends that delegate, both are seen in turn."""

    class Other(TableBackend):
        @hookimpl
        def quanthost_annotate(self) -> Any:
            return []

    known = resolve(Target(backend=BACKEND))[0].plugin(BACKEND)
    assert isinstance(known, TableBackend)
    other = Other(
        info=known.info,
        table=known.table,
        delegate=known.delegate,
        lowering=known.quanthost_lowering_options(),
    )
    plugins = Plugins([(BACKEND, known), ("other", other)])
    request = Request(backends=plugins.backends, recipe="int8_static")
    found = stage.trace(captured, plugins, request)
    assert [graph.stage for graph in found.graphs][4:] == ["edge", "edge_2", "delegated"]


def test_a_stage_that_refuses_ends_the_trace(captured: Any) -> None:
    """What was reached is shown, and the note says why no more."""

    class Broken(TableBackend):
        @hookimpl
        def quanthost_create_partitioners(self, request: Any) -> Any:
            raise RequestError("no tools here", needed="the tools", remedy="install them")

    known = resolve(Target(backend=BACKEND))[0].plugin(BACKEND)
    assert isinstance(known, TableBackend)
    plugins = Plugins([(BACKEND, Broken(info=known.info, table=known.table, rewrites=known.rewrites))])
    found = stage.trace(captured, plugins, Request(backends=plugins.backends, recipe="int8_static"))
    assert [graph.stage for graph in found.graphs] == STAGES[:4]
    assert found.note == "stopped: no tools here"
