"""The evaluator of rows: each rule that refuses a site, in order, and as late as it is asked for."""

from __future__ import annotations

import torch
from sample_graphs import IMAGE, graph_of, node_of
from torch import nn

from quanthost.graph.evaluation import RowEvaluator, RuleRefusal
from quanthost.graph.pattern import Mismatch, op
from quanthost.graph.table import Constraint, Row, Site
from quanthost.graph.view import GraphView
from quanthost.values import Kernel, Role

CONV = op("conv2d", input="input", weight="weight", bias="bias?")
CALLS: list[str] = []


def rule(text: str, reason: str | None) -> Constraint:
    def check(site: Site) -> str | None:
        CALLS.append(text)
        return reason

    return Constraint(text, check)


def row(*rules: Constraint) -> Row:
    return Row(
        name="conv", pattern=CONV, kernels={Kernel.STATIC}, roles={"weight": Role.WEIGHT}, constraints=rules
    )


def evaluated(row: Row, *, computed: bool = False, accept: Constraint | None = None) -> list[RuleRefusal]:
    """All refusals of the row at the only convolution of a graph."""
    weight = torch.ones(4, 3, 1, 1)
    graph = (
        graph_of(lambda x, w: torch.conv2d(x, w), IMAGE, weight) if computed
        else graph_of(nn.Conv2d(3, 4, 1), IMAGE)
    )  # fmt: skip
    evaluator = RowEvaluator(view=GraphView(graph), kernel=Kernel.STATIC, accept=accept)
    site = evaluator.site_at(row, node_of(graph, "conv2d"))
    assert isinstance(site, Site)
    refusals = list(evaluator.refusals(site))
    assert evaluator.refusal(site) == (refusals[0] if refusals else None)
    return refusals


def test_every_rule_that_refuses_in_order() -> None:
    """Constants before the row's constraints; the rule for all rows only where these hold."""
    found = evaluated(
        row(rule("a", "one"), rule("b", None), rule("c", "two")), computed=True, accept=rule("d", "x")
    )
    assert [(each.rule, each.reason) for each in found] == [
        ("weight is a constant", "weight is computed, not a constant of the model"),
        ("a", "one"),
        ("c", "two"),
    ]
    assert evaluated(row(rule("b", None)), accept=rule("d", "x")) == [RuleRefusal(rule="d", reason="x")]
    assert evaluated(row(rule("b", None)), accept=rule("d", None)) == []


def test_the_first_refusal_ends_the_evaluation() -> None:
    """A constraint behind one that refused is not asked: it may rely on it."""
    graph = graph_of(nn.Conv2d(3, 4, 1), IMAGE)
    evaluator = RowEvaluator(view=GraphView(graph), kernel=Kernel.STATIC)
    site = evaluator.site_at(row(rule("a", None), rule("b", "no"), rule("c", "no")), node_of(graph, "conv2d"))
    assert isinstance(site, Site)
    CALLS.clear()
    assert evaluator.refusal(site) == RuleRefusal(rule="b", reason="no")
    assert CALLS == ["a", "b"]


def test_pattern_and_kernel() -> None:
    """A pattern that stops says where; a row without the kernel says which it has."""
    graph = graph_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), IMAGE)
    static = RowEvaluator(view=GraphView(graph), kernel=Kernel.STATIC)
    stopped = static.site_at(row(), node_of(graph, "relu"))
    assert isinstance(stopped, Mismatch)
    assert (stopped.node, stopped.found) == ("relu", "aten.relu.default")
    assert static.kernel_refusal(row()) is None
    dynamic = RowEvaluator(view=GraphView(graph), kernel=Kernel.DYNAMIC)
    assert dynamic.kernel_refusal(row()) == RuleRefusal(rule="a dynamic kernel", reason="static")
