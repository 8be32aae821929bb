"""Running a graph over several batches at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from quanthost.graph.walk import walk

BATCHES = [(torch.full((2, 3), float(n)),) for n in range(3)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight.t() * 2
        return x @ weight, x.sum(1)


def traced() -> fx.GraphModule:
    made = torch.export.export(Net(), BATCHES[0]).module(check_guards=False)
    assert isinstance(made, fx.GraphModule)
    return made


def test_outputs_are_those_of_the_module() -> None:
    """Flat, for each batch."""
    module = traced()

    made = walk(module, BATCHES, lambda _, results: results)

    assert len(made) == 3
    for (x,), outputs in zip(BATCHES, made):
        assert all(map(torch.equal, outputs, module(x)))


def test_constants_are_computed_once() -> None:
    """For all batches together; what reads an input is computed for each."""
    module = traced()
    seen: dict[str, list[Any]] = {}

    walk(module, BATCHES, lambda node, results: seen.setdefault(node.name, results))

    assert len({id(result) for result in seen["mul"]}) == 1
    assert len({id(result) for result in seen["matmul"]}) == 3


def test_what_a_visitor_returns_is_read() -> None:
    """By all that come behind."""
    module = traced()

    def visit(node: fx.Node, results: list[Any]) -> list[Any]:
        return [result + 1 for result in results] if node.name == "mul" else results

    made = walk(module, BATCHES, visit)

    x, weight = BATCHES[2][0], module.weight.detach().t() * 2 + 1
    assert torch.equal(made[2][0], x @ weight)
