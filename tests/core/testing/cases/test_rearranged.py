"""Renaming and reordering a graph, as the suite does it to a backend, changes nothing that it computes."""

from __future__ import annotations

import torch
from torch import nn

from quanthost.testing.cases.rearranged import rename, shuffle


class _Forks(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + torch.tanh(y) * torch.sigmoid(x)


def test_names_and_order() -> None:
    """Other names, another order, the same result."""
    x, y = torch.randn(3), torch.randn(3)
    module = torch.export.export(_Forks(), (x, y)).module()
    before = [node.name for node in module.graph.nodes]
    wanted = module(x, y)

    shuffle(module, seed=1)
    reordered = [node.name for node in module.graph.nodes]
    rename(module)

    assert sorted(reordered) == sorted(before)
    assert reordered != before
    assert torch.equal(module(x, y), wanted)
    assert all(n.name.startswith("renamed") for n in module.graph.nodes if n.op == "call_function")
