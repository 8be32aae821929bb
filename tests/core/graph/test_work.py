"""Multiplications by shapes, beside torch's own counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from quanthost.graph.view import constant, tensor_meta
from quanthost.graph.work import multiplications


class Takes(nn.Module):
    """One call of a function."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, *operands: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.call(*operands)
        return made


def counted(model: nn.Module, operands: tuple[torch.Tensor, ...], **options: Any) -> int:
    module = torch.export.export(model, operands, **options).module()
    assert isinstance(module, torch.fx.GraphModule)

    def tensor_of(node: object) -> torch.Tensor | None:
        held = constant(module, node)
        return tensor_meta(node) if held is None and isinstance(node, torch.fx.Node) else held

    return sum(multiplications(node, tensor_of) for node in module.graph.nodes)


CASES: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {
    "conv2d": (nn.Conv2d(6, 4, (3, 5), stride=2, padding=1), (torch.rand(2, 6, 9, 11),)),
    "grouped": (nn.Conv2d(6, 12, 3, groups=3), (torch.rand(1, 6, 8, 8),)),
    "conv1d": (nn.Conv1d(3, 5, 4, dilation=2), (torch.rand(1, 3, 20),)),
    "conv3d": (nn.Conv3d(2, 3, 2), (torch.rand(1, 2, 4, 5, 6),)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), (torch.rand(1, 4, 5, 5),)),
    "linear": (nn.Linear(7, 5), (torch.rand(3, 2, 7),)),
    "matmul": (Takes(torch.matmul), (torch.rand(2, 3, 4, 5), torch.rand(2, 3, 5, 6))),
    "bmm": (Takes(torch.bmm), (torch.rand(2, 4, 5), torch.rand(2, 5, 6))),
    "mm": (Takes(torch.mm), (torch.rand(4, 5), torch.rand(5, 6))),
    "addmm": (Takes(torch.addmm), (torch.rand(6), torch.rand(4, 5), torch.rand(5, 6))),
    "baddbmm": (Takes(torch.baddbmm), (torch.rand(2, 4, 6), torch.rand(2, 4, 5), torch.rand(2, 5, 6))),
    "none": (nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)), (torch.rand(1, 3, 8, 8),)),
}


@pytest.mark.parametrize("name", CASES)
def test_half_of_the_operations_are_multiplications(name: str) -> None:
    """Torch counts an addition for each of them."""
    model, operands = CASES[name]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*operands)
    assert counted(model, operands) * 2 == counter.get_total_flops()


def test_vectors() -> None:
    """Torch's counter does not know these products."""
    assert counted(Takes(torch.mv), (torch.rand(4, 5), torch.rand(5))) == 20
    assert counted(Takes(torch.dot), (torch.rand(5), torch.rand(5))) == 5


def test_unknown_sizes_count_nothing() -> None:
    """A number of rows that is known at run time only."""
    rows = torch.export.Dim("rows", min=2, max=8)
    model = nn.Sequential(nn.Linear(7, 5))
    assert counted(model, (torch.rand(3, 7),), dynamic_shapes=(({0: rows}),)) == 0
    assert counted(model, (torch.rand(3, 7),)) == 105
