"""Rows tried for one operator: which can concern it, how far each came, and what stood in the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from sample_graphs import IMAGE, ROW, graph_of, node_of
from torch import fx, nn

from quanthost.debugging.row_attempts import Answer, SearchContext, tensor_text, try_rows
from quanthost.graph.evaluation import RowEvaluator
from quanthost.graph.matcher import match_table
from quanthost.graph.pattern import op
from quanthost.graph.table import Constraint, Row, Site, SupportTable, constraint
from quanthost.graph.view import GraphView
from quanthost.values import Kernel, Role
from quanthost.values.explanation import Outcome, RowAttempt

CONV = op("conv2d", input="input", weight="weight", bias="bias?")
ROLES = {"weight": Role.WEIGHT, "bias": Role.BIAS}


@constraint("at most 4 channels")
def few_channels(site: Site) -> str | None:
    channels = site.shape("weight")[0]
    return None if channels <= 4 else f"{channels} channels"


def row(name: str, pattern: Any, **more: Any) -> Row:
    return Row(**{"name": name, "pattern": pattern, "kernels": {Kernel.STATIC}, "roles": {}, **more})


TABLE = SupportTable(
    [
        row("conv", CONV, roles=ROLES, constraints=[few_channels]),
        row("conv_relu", op("relu", self=CONV), roles=ROLES, constraints=[few_channels]),
        row("conv_tanh", op("tanh", self=CONV), roles=ROLES),
        row("conv_add_relu", op("relu", self=op("add.Tensor", self=CONV, other="other")), roles=ROLES),
        row("conv_float", CONV, roles=ROLES, kernels={Kernel.FLOAT}),
        row("linear", op("linear", input="input", weight="weight", bias="bias?"), roles=ROLES),
    ]
)


def attempts(
    graph: fx.GraphModule,
    target: fx.Node,
    closed: Callable[[fx.Node], str | None] = lambda _: None,
    accept: Constraint | None = None,
) -> dict[str, RowAttempt]:
    """The only attempt of each row, with answers as the matcher gives them."""
    view = GraphView(graph)
    found = match_table(TABLE, view, Kernel.STATIC, is_open=lambda n: closed(n) is None, accept=accept)
    context = SearchContext(
        evaluator=RowEvaluator(view=view, kernel=Kernel.STATIC, accept=accept), closed=closed,
        answers=[Answer(row=site.row.name, nodes=site.nodes) for site in found.sites],
    )  # fmt: skip
    made, others = try_rows(TABLE, target, context)
    names = [attempt.row for attempt in made]
    assert len(set(names)) == len(names)
    assert len(names) + others == len(TABLE.rows)
    return {attempt.row: attempt for attempt in made}


def test_each_outcome_of_a_fused_convolution() -> None:
    """The longest row has it; shorter and other ones say what they would have needed, and at which node."""
    graph = graph_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), IMAGE)
    found = attempts(graph, node_of(graph, "conv2d"))
    assert {name: attempt.outcome for name, attempt in found.items()} == {
        "conv": Outcome.OUTDONE, "conv_relu": Outcome.TAKEN, "conv_tanh": Outcome.PATTERN,
        "conv_add_relu": Outcome.PATTERN, "conv_float": Outcome.KERNEL,
    }  # fmt: skip
    assert found["conv"].found == "row conv_relu has conv2d, relu"
    assert found["conv_relu"].nodes == ("conv2d", "relu")
    stopped = found["conv_tanh"]
    assert (stopped.nodes, stopped.found) == (("conv2d",), "relu (aten.relu.default)")
    assert stopped.expected == "tanh behind it"
    assert (found["conv_float"].found, found["conv_float"].expected) == ("float", "a static kernel")


def test_the_output_of_a_pattern_is_an_operator_of_it() -> None:
    """Of the ReLU too, the rows are listed; where an inner operator is another, it is named."""
    graph = graph_of(lambda x, y: torch.relu(torch.tanh(x) + y), ROW, ROW)
    found = attempts(graph, node_of(graph, "relu"))
    assert list(found) == ["conv_relu", "conv_add_relu"]
    assert (found["conv_relu"].found, found["conv_relu"].expected) == ("aten.add.Tensor", "conv2d")
    assert found["conv_relu"].nodes == ("add",)
    assert (found["conv_add_relu"].found, found["conv_add_relu"].nodes) == ("aten.tanh.default", ("tanh",))


def test_a_second_reader_is_named() -> None:
    """An inner operator that something else reads too cannot be fused."""

    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.conv(x)
            return F.relu(y), y * 2

    graph = graph_of(Read(), IMAGE)
    found = attempts(graph, node_of(graph, "conv2d"))["conv_relu"]
    assert (found.outcome, found.found) == (Outcome.PATTERN, "conv2d with 2 uses")
    assert (found.expected, found.nodes) == ("aten.conv2d.default with one use", ("conv2d",))


def test_a_constraint_shows_its_rule_its_reason_and_what_it_saw() -> None:
    """Shapes and dtypes of the tensors, and the arguments of the operators."""
    graph = graph_of(nn.Conv2d(3, 8, 1, stride=2), IMAGE)
    found = attempts(graph, node_of(graph, "conv2d"))["conv"]
    assert (found.outcome, found.found, found.expected) == (
        Outcome.CONSTRAINT, "8 channels", "at most 4 channels",
    )  # fmt: skip
    facts = dict(found.facts)
    assert facts["weight"] == "float32[8, 3, 1, 1], constant"
    assert facts["input"] == "float32[1, 3, 4, 4]"
    assert facts["output"] == "float32[1, 8, 2, 2]"
    assert facts["conv2d.stride"] == "[2, 2]"
    assert "conv2d.weight" not in facts


def test_a_computed_weight_is_a_rule_of_its_own() -> None:
    """Weights must be constants of the model."""
    graph = graph_of(lambda x, w: F.conv2d(x, w), IMAGE, torch.ones(4, 3, 1, 1))
    found = attempts(graph, node_of(graph, "conv2d"))["conv"]
    assert (found.outcome, found.expected) == (Outcome.CONSTRAINT, "weight is a constant")
    assert found.found == "weight is computed, not a constant of the model"


def test_what_is_closed_says_why() -> None:
    """Before any constraint is looked at, as the matcher does; of all operators that a row would cover."""
    graph = graph_of(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), IMAGE)
    found = attempts(graph, node_of(graph, "conv2d"), lambda n: "an override" if n.name == "relu" else None)
    assert (found["conv_relu"].outcome, found["conv_relu"].found) == (Outcome.CLOSED, "relu: an override")
    assert found["conv"].outcome is Outcome.CONSTRAINT


def test_the_last_check_of_the_host() -> None:
    """What the host itself asks for is told like a constraint."""
    graph = graph_of(nn.Conv2d(3, 4, 1), IMAGE)
    found = attempts(
        graph, node_of(graph, "conv2d"), accept=Constraint("what the host asks for", lambda _: "not so")
    )["conv"]
    assert (found.outcome, found.found, found.expected) == (
        Outcome.CONSTRAINT, "not so", "what the host asks for",
    )  # fmt: skip


def test_what_nothing_reads() -> None:
    """The end of the model is told as such."""
    graph = graph_of(nn.Conv2d(3, 4, 1), IMAGE)
    assert attempts(graph, node_of(graph, "conv2d"))["conv_relu"].found == "the model's output"


def test_tensors_as_text() -> None:
    """Dtype and sizes; what makes several tensors has none."""
    graph = graph_of(lambda x: torch.topk(x, 2)[0], ROW)
    assert tensor_text(node_of(graph, "topk")) == "?"
    assert tensor_text(next(iter(graph.graph.find_nodes(op="placeholder")))) == "float32[2, 4]"
