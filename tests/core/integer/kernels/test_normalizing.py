"""Softmax and the root of a variance from integers alone."""

from __future__ import annotations

import math

import pytest
import torch
from qdq_graphs import convert, image, operators, steps

from quanthost.integer.kernels.normalizing import integer_root


@pytest.mark.parametrize("value", [1, 2, 3, 4, 99, 2**20 + 1, 2**40 - 1])
def test_the_root_is_rounded_down(value: int) -> None:
    """As ``math.isqrt`` of the number times the square of the power of two that gives the root 31 bits."""
    root, places = integer_root(torch.tensor([value]))

    assert int(root) == math.isqrt(value * int(places) ** 2)
    assert int(root).bit_length() == 31


def test_softmax() -> None:
    """A step from the q/dq form at most."""
    wanted, result, forms, module = convert(lambda x: torch.softmax(x, -1), image(3, 8))

    assert operators(module) == ["Softmax"]
    assert not forms.islands
    assert steps(wanted, result) <= 1


def test_softmax_of_a_number() -> None:
    """Without a dimension there is nothing to sum: it stays float."""
    _, result, forms, _ = convert(lambda x: torch.softmax(x, 0), torch.tensor(0.5))

    assert forms.islands == {"softmax": "its operand has no dimension"}
    assert result.item() == 1.0
