"""Tensor arguments of the catalogue."""

from __future__ import annotations

import pytest
import torch

from quanthost.catalogue.operands import Operand


def _made(operand: Operand) -> torch.Tensor:
    return operand.make(torch.Generator().manual_seed(0))


def test_both_ends_are_among_the_values() -> None:
    """The same each time, from the lower to the upper end."""
    operand = Operand((3, 4), low=-2.0, high=1.0)
    values = _made(operand)

    assert torch.equal(values, _made(operand))
    assert (float(values.min()), float(values.max())) == (-2.0, 1.0)
    assert operand.resized(2).shape == (2,)


def test_integers_and_truth_values() -> None:
    """Below a bound, and both truth values."""
    assert set(_made(Operand((100,), below=3)).tolist()) == {0, 1, 2}
    assert _made(Operand((100,), below=2, boolean=True)).dtype is torch.bool


def test_layouts() -> None:
    """The shape stays; the order in memory is the one that is named."""
    assert _made(Operand((1, 2, 3, 4), layout="channels_last")).is_contiguous(
        memory_format=torch.channels_last
    )
    turned = _made(Operand((3, 4), layout="transposed"))
    assert tuple(turned.shape) == (3, 4)
    assert turned.t().is_contiguous()
    with pytest.raises(ValueError, match="layout"):
        Operand((1,), layout="sideways")
