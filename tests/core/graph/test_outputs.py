"""Outputs of a program are planned, and put together again."""

from __future__ import annotations

import torch
from sample_graphs import ROW, graph_of
from torch import nn

from quanthost.graph.outputs import assemble, plan_outputs
from quanthost.values import LeafSource


class Results(nn.Module):  # type: ignore[misc]  # torch is not typed
    """Returns a tensor twice, its input, a weight and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(3.0))

    def forward(self, x: torch.Tensor) -> tuple[object, ...]:
        made = x + 1
        return made, x, made, self.weight, None


def test_each_tensor_once() -> None:
    """The program returns what it computes, once; the plan has the rest."""
    graph = graph_of(Results(), ROW)
    plan = plan_outputs(graph)
    outputs = list(graph(ROW))

    assert len(outputs) == 2
    sources = [leaf.source for leaf in plan]
    program = LeafSource.PROGRAM
    assert sources == [program, LeafSource.INPUT, program, program, LeafSource.CONSTANT]
    first, second, third, weight, last = assemble(plan, outputs, [ROW])
    assert torch.equal(first, ROW + 1)
    assert second is ROW
    assert third is first
    assert torch.equal(weight, torch.arange(3.0))
    assert last is None
