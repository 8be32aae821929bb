"""Each producing row before each consuming row, the consumers as branches of one program."""

from __future__ import annotations

import attrs
import pytest
import torch
from judging import KERNELS, judge, lowered, rows_of
from kit import Case
from steps import representatives, step
from torch import nn
from whole import part

from quanthost.api import Kernel

pytestmark = pytest.mark.slow

SHAPE = (2, 4, 6, 6)
# a fused activation changes nothing on the side of the input, and the same behind each operator
_FUSED = ("_relu", "_hardtanh")
_FUSED_PRODUCERS = ("conv_relu", "linear_relu", "add_relu")
# a function's result is like that of any other; what differs between these is what they read
_LIKE_RELU = ("hardswish", "gelu", "elu", "sqrt", "square")
# in float arithmetic not even that
_LIKE_RELU_IN_FLOAT = (*_LIKE_RELU, "sigmoid", "tanh")
# beside other readers a copy stays outside, and a softmax does behind channels-last data: by constraints
_CHANNELS_LAST = frozenset(
    (
        *("conv", "conv_relu", "conv_transpose", "conv_transpose_grouped", "prelu", "max_pool2d", "max"),
        *("mean", "adaptive_avg_pool2d", "avg_pool2d", "upsample_bilinear2d"),
    )
)
# the edge graph may have a copy before a reshape
_TAKEN = {"adaptive_avg_pool2d": ("mean",), "view_of_clone": ("permute",), "view": ()}


class Fan(nn.Module):
    """A producer and its consumers; the producer's result first."""

    def __init__(self, cases: list[Case]) -> None:
        super().__init__()
        self.cases = nn.ModuleList(case.module for case in cases)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        producer, *consumers = self.cases
        made = producer(x)
        return (made, *(consumer(made) for consumer in consumers))


def _consumers(kernel: Kernel) -> list[str]:
    rows = [row for row in representatives(rows_of(kernel), 1) if not row.endswith(_FUSED)]
    return [row for row in rows if row not in _LIKE_RELU_IN_FLOAT] if kernel is Kernel.FLOAT else rows


def _producers(kernel: Kernel) -> list[str]:
    return [*(row for row in _consumers(kernel) if row not in _LIKE_RELU), *_FUSED_PRODUCERS]


def _refused(producer: str, consumer: str, kernel: Kernel) -> bool:
    if kernel is not Kernel.FLOAT:
        return False
    return consumer == "clone" or (consumer == "softmax" and producer in _CHANNELS_LAST)


def _case(row: str, shape: tuple[int, ...]) -> Case | None:
    torch.manual_seed(0)
    module = step(row, shape)
    if module is None:
        return None
    decided = ("permute", "view") if row == "view_of_clone" else (row,)
    taken = _TAKEN.get(row, decided)
    return Case(row=row, module=module.eval(), inputs=(), decided=decided, taken=taken, varies=False)


def _behind(producer: str, kernel: Kernel, case: Case) -> Case:
    """Bounds behind a max pool have a row of their own."""
    if (
        kernel is Kernel.FLOAT
        or producer not in ("max_pool2d", "max")
        or case.row not in ("relu", "hardtanh")
    ):
        return case
    row = f"{case.row}_of_maximum"
    return attrs.evolve(case, row=row, decided=(row,), taken=(row,))


def _judged(producer: str, recipe: str) -> list[str]:
    kernel = KERNELS[recipe]
    shape = (8, 36) if producer == "mm" else SHAPE
    x = torch.linspace(-1.5, 2.0, 288)[torch.randperm(288)].reshape(shape)
    first = _case(producer, shape)
    assert first is not None
    made = tuple(first.module(x).shape)
    consumers = [_case(row, made) for row in _consumers(kernel) if not _refused(producer, row, kernel)]
    cases = [first, *(_behind(producer, kernel, case) for case in consumers if case is not None)]
    proof, calls = lowered(Fan(cases), [x], recipe, placement="all")
    return judge(proof, cases, kernel, calls, chained=True)


@pytest.mark.parametrize("producer", part(_producers(Kernel.STATIC), 2))
def test_integer_pairs(producer: str) -> None:
    """Nothing is converted between the two, and each result is right to a step."""
    assert _judged(producer, "int8_static") == []


@pytest.mark.parametrize("producer", part(_producers(Kernel.FLOAT), 2))
def test_float_pairs(producer: str) -> None:
    """The layout that one operator leaves is the one that the next one reads."""
    assert _judged(producer, "fp32") == []
