"""Calls that a kernel of the runtime computes wrongly are found in the edge graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from executorch.exir import EdgeCompileConfig, to_edge
from executorch.extension.pybindings import portable_lib
from flow_nets import rand
from torch import Tensor, nn

from quanthost.toolchain.kernel_faults import find_faults

pytestmark = pytest.mark.slow

SCALAR = torch.tensor(0.5)
INTEGERS = (torch.tensor([5, -5, 7, -7]), torch.tensor([3, 3, -3, -3]))


class Calls(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def edge(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
    exported = torch.export.export(Calls(function), inputs, strict=False)
    return to_edge(exported, compile_config=EdgeCompileConfig(_check_ir_validity=False))


@pytest.mark.parametrize(
    ("function", "inputs", "found"),
    [
        (torch.remainder, INTEGERS, ["aten.remainder.Tensor"]),
        (torch.remainder, (rand(4), rand(4)), []),
        (lambda x: torch.sum(x, 0), (SCALAR,), ["aten.sum.dim_IntList"]),
        (lambda x: torch.logsumexp(x, 0), (SCALAR,), ["aten.sum.dim_IntList"]),
        (torch.sum, (SCALAR,), []),
        (lambda x: torch.sum(x, 0), (rand(3),), []),
        (lambda x: x.unfold(0, 1, 1), (SCALAR,), ["aten.unfold.default"]),
        (lambda x: x.unfold(0, 2, 1), (rand(5),), []),
    ],
)
def test_what_is_found(function: Callable[..., Any], inputs: tuple[Tensor, ...], found: list[str]) -> None:
    """The operator by name, for the operands with which it fails only."""
    graph_module = edge(function, inputs).exported_program().graph_module

    assert [operator for operator, _ in find_faults(graph_module)] == found


def test_the_kernel_is_wrong() -> None:
    """As long as this runtime's kernel is: a release that mends it takes the entry away."""
    buffer = edge(torch.remainder, INTEGERS).to_executorch().buffer
    (result,) = portable_lib._load_for_executorch_from_buffer(buffer).forward(INTEGERS)

    assert not torch.equal(result, torch.remainder(*INTEGERS))
