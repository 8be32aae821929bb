"""Branches and loops beside one another: their results have memory of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flow_nets import rand, seeded
from torch import Tensor, nn
from torch._higher_order_ops.map import map as map_rows
from torch._higher_order_ops.scan import scan
from whole import part

import quanthost

pytestmark = pytest.mark.slow


class Branches(nn.Module):
    """Two branches that share values, the second of the first's result; and a layer to quantize."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.layer = limit, nn.Linear(2, 2)
        seeded(self)

    def forward(self, x: Tensor) -> Any:
        y = x + 1 + self.layer(x)
        a = torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (y,))
        b = torch.cond(x.sum() > self.limit, lambda a, y: (a * 3 + y) * a, lambda a, y: a + y, (a, y))
        return a + b + y


class Nested(nn.Module):
    """Branches within branches."""

    def forward(self, x: Tensor) -> Any:
        def inner(x: Tensor) -> Any:
            a = torch.cond(x.sum() > 1, lambda y: y * 2 + y, lambda y: y - 1, (x,))
            b = torch.cond(x.sum() > 2, lambda y: y * 2 * y + y, lambda y: y - 1, (x,))
            return a + b

        a = torch.cond(x.sum() > 0, inner, lambda y: y + y * y, (x,))
        b = torch.cond(x.sum() > -1, inner, lambda y: y + y * y, (x,))
        return a * b


class Rows(nn.Module):
    """Two loops over rows."""

    def forward(self, x: Tensor) -> Any:
        return map_rows(lambda row: row * 2 + 1, x) + map_rows(lambda row: row * 3 + row, x)


class Sums(nn.Module):
    """Two loops that carry a sum, with numbers in their bodies."""

    def forward(self, x: Tensor) -> Any:
        total, parts = scan(lambda c, row: (c + row, c * row), x[0], x)
        other, others = scan(lambda c, row: (c + row * 2, c * row + 1), x[0], x)
        return total + other, parts + others


MODELS = {"first": Branches(-100), "second": Branches(100), "nested": Nested(), "map": Rows(), "scan": Sums()}


FLOWS = (("xnnpack_like", "int8_static"), ("int8_reference", "fp32"))
# each model through one of them first
CASES = [(name, *FLOWS[(i + j) % 2]) for i, name in enumerate(MODELS) for j in range(2)]


@pytest.mark.parametrize(("name", "backend", "recipe"), part(CASES, 2))
def test_control_flow(name: str, backend: str, recipe: str) -> None:
    """The program computes what eager torch does; what runs in a branch stays in float."""
    model, x = MODELS[name].eval(), rand(3, 2, seed=1) + 0.5
    program = quanthost.quantize(model, (x,), backend, recipe, [(x,), (-x,)])

    for batch in (x, -x):
        results, wanted = program.run(batch), model(batch)
        assert torch.utils._pytree.tree_structure(results) == torch.utils._pytree.tree_structure(wanted)
        for result, value in zip(*map(torch.utils._pytree.tree_leaves, (results, wanted))):
            assert (result - value).norm() <= 0.02 * value.norm() + 1e-6
