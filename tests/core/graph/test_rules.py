"""What rewrites of several backends share: a rule for some operators, and splits as slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sample_graphs import graph_of
from torch import fx

from quanthost.graph.operators import base_name, operator_name
from quanthost.graph.rewrite import Rewriter
from quanthost.graph.rules import rewrite_each, slice_parts

X = torch.arange(24.0).reshape(2, 6, 2)


@rewrite_each("aten.split.", "aten.split_with_sizes.", "aten.chunk.", "aten.unbind.")
def splits(rewriter: Rewriter, node: fx.Node) -> None:
    """Every split."""
    slice_parts(rewriter, node)


def names(graph: fx.GraphModule) -> list[str]:
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return [base_name(node) for node in graph.graph.nodes if node.op == "call_function"]


SPLITS: dict[str, Callable[[torch.Tensor], Any]] = {
    "split": lambda x: x.split(4, 1)[1] + 1,
    "split_with_sizes": lambda x: x.split([1, 3, 2], 1)[1] * x.split([1, 3, 2], 1)[1],
    "chunk": lambda x: [part + 1 for part in x.chunk(3, -2)],
    "unbind": lambda x: x.unbind(1)[2] + x.unbind(1)[5],
}


@pytest.mark.parametrize("kind", SPLITS)
def test_parts_become_slices(kind: str) -> None:
    """The same values, of slices alone; a part that nobody reads is not computed."""
    graph = graph_of(SPLITS[kind], X)
    expected = graph(X)
    splits(graph)
    assert not {"split", "split_with_sizes", "chunk", "unbind"} & set(names(graph))
    torch.testing.assert_close(graph(X), expected)


def test_a_rule_sees_its_operators_alone() -> None:
    """By the beginning of their names; what it returns takes the place of the node, ``None`` leaves it."""
    seen: list[str] = []

    @rewrite_each("aten.relu.")
    def second_to_abs(rewriter: Rewriter, node: fx.Node) -> fx.Node | None:
        """A rule."""
        seen.append(node.name)
        return rewriter.call(torch.ops.aten.abs.default, node.args[0]) if node.name == "relu_1" else None

    graph = graph_of(lambda x: torch.nn.functional.relu6(x.relu().relu()) + 1, X)
    second_to_abs(graph)
    assert seen == ["relu", "relu_1"]
    assert names(graph)[:3] == ["relu", "abs", "relu6"]
    assert (second_to_abs.__name__, second_to_abs.__doc__) == ("second_to_abs", "A rule.")
    assert all("val" in node.meta for node in graph.graph.nodes if operator_name(node) == "aten.abs.default")
