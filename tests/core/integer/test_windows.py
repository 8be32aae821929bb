"""Pools and means become operators on integers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from qdq_graphs import convert, image, operators, steps


def test_a_maximum_is_the_integers_maximum() -> None:
    """Nothing is rounded where the result has the operand's numbers."""
    wanted, result, forms, module = convert(lambda x: F.max_pool2d(x, 2), image(1, 2, 4, 4))

    assert operators(module) == ["MaxPool"]
    assert not forms.islands
    assert torch.equal(wanted, result)


def test_averages() -> None:
    """Sums of integers with the count in the scale, a step from the q/dq form at most."""
    wanted, result, _, module = convert(lambda x: F.avg_pool2d(x, 2), image(1, 2, 6, 6))
    assert len(operators(module)) == 1
    assert steps(wanted, result) <= 1

    wanted, result, _, module = convert(lambda x: x.mean((2, 3)), image(1, 5, 6, 6))
    assert operators(module) == ["Mean"]
    assert steps(wanted, result) <= 1
