"""Integers pass through operators that only move data."""

from __future__ import annotations

import torch
from qdq_graphs import convert, image, operators

from quanthost.integer.building import per_dimension


def test_moving_is_no_arithmetic() -> None:
    """A view and a permutation between quantized tensors move integers: no operator on them is needed."""
    wanted, result, forms, module = convert(lambda x: x.permute(1, 0).reshape(-1), image(3, 4))

    assert operators(module) == []
    assert set(forms.integer.values()) == {"moves integers"}
    assert torch.equal(wanted, result)


def test_one_argument_for_each_dimension() -> None:
    """A number stands for all dimensions, and so does a list of one."""
    assert per_dimension(None, 2, 1) == [1, 1]
    assert per_dimension(3, 2, 1) == per_dimension([3], 2, 1) == [3, 3]
    assert per_dimension([1, 2], 2, 1) == [1, 2]
