"""Three rows in a row: what lies between two others, for each row that can, the triples as branches."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from judging import KERNELS, compiled, lowered, rows_of
from kit import Proof
from steps import representatives, step
from torch import Tensor, nn
from whole import part

from quanthost.api import Kernel
from quanthost.values import Verdict

pytestmark = pytest.mark.slow

SHAPE = (2, 4, 6, 6)
# what reads the middle: rows that want images, rows that want the last dimension, and rows that want neither
LASTS = ("conv", "linear", "add", "cat", "max_pool2d", "mean", "slice", "permute", "hardswish", "conv_relu")
EACH = 4
# rounding of a tie differs by a step; a step of a wide tensor is several of a narrow one made of it
LEAST_DB = 30.0


class Triples(nn.Module):
    """A layer, and branches of two rows behind it."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(SHAPE[1], SHAPE[1], 3, padding=1)
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made = self.layer(x)
        return tuple(branch(made) for branch in self.branches)


# a float copy beside other readers stays outside, and so does a softmax of channels-last data
OUTSIDE = {Kernel.FLOAT: ("clone", "softmax"), Kernel.STATIC: ()}


def _middles(kernel: Kernel) -> list[str]:
    """A function's result is like that of another function: one of a kind will do."""
    rows = [row for row in representatives(rows_of(kernel), 1) if row not in OUTSIDE[kernel]]
    return [row for row in rows if step(row, SHAPE) is not None]


def _branches(middle: str, kernel: Kernel) -> Iterator[nn.Module]:
    torch.manual_seed(0)
    first = step(middle, SHAPE)
    assert first is not None
    shape = tuple(first.eval()(torch.ones(SHAPE)).shape)
    drawn = list(LASTS)
    random.Random(middle).shuffle(drawn)
    made = (step(last, shape) for last in drawn)
    fitting = [last for last in made if last is not None]
    for last in fitting[:EACH]:
        yield nn.Sequential(step(middle, SHAPE), last)


def _problems(proof: Proof, kernel: Kernel, edges: int) -> Iterator[str]:
    for decision in proof.decisions:
        if kernel is Kernel.STATIC and decision.verdict is Verdict.FLOAT:
            yield f"{decision.node} is float: {decision.reason}"
        if decision.verdict is not Verdict.FOLDED and decision.placement != "taken by the delegate":
            yield f"{decision.node}: {decision.placement}"
    for number, output in enumerate(proof.outputs):
        noise = (output.runtime - output.qdq).double().square().sum().clamp(min=1e-30)
        level = float(10 * torch.log10(output.qdq.double().square().sum() / noise))
        if not level >= (LEAST_DB if kernel is Kernel.STATIC else 80.0):
            yield f"output {number % (edges - 1)} is {level:.0f} dB from the q/dq form"


@pytest.mark.parametrize(
    ("recipe", "middle"),
    [(recipe, row) for recipe in ("int8_static", "fp32") for row in part(_middles(KERNELS[recipe]), 2)],
)
def test_triples(recipe: str, middle: str) -> None:
    """Nothing is converted at either seam, all lies in the delegate, and each result is right."""
    kernel = KERNELS[recipe]
    branches = list(_branches(middle, kernel))
    assert len(branches) == EACH
    x = torch.linspace(-1.5, 2.0, 288)[torch.randperm(288)].reshape(SHAPE)
    edges = 1 + len(branches)

    proof, calls = lowered(Triples(branches).eval(), [x], recipe, placement="all")

    assert [*compiled(proof, kernel, calls, edges), *_problems(proof, kernel, edges)] == []
