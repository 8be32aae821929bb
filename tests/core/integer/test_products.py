"""Operators that sum products become one operator on integers."""

from __future__ import annotations

import torch
from qdq_graphs import convert, dequantized, image, operators, steps

WEIGHT = (torch.arange(72) * 29 % 255 - 127).to(torch.int8).reshape(4, 2, 3, 3)
ROWS = WEIGHT.reshape(9, 8)


def test_a_convolution() -> None:
    """Within a rounding of the q/dq form, with the bias in it."""
    bias = torch.tensor([0.5, -0.25, 0.125, 0.0])
    wanted, result, forms, module = convert(
        lambda x: torch.conv2d(x, dequantized(WEIGHT, 2.0**-9), bias, padding=1),
        image(1, 2, 5, 5),
    )
    assert operators(module) == ["Convolution"]
    assert not forms.islands
    assert steps(wanted, result) <= 1
    assert result.unique().numel() > 20


def test_a_layer_and_a_product_of_two_tensors() -> None:
    """A linear layer has its weight in the operator; a product of computed tensors has two inputs."""
    wanted, result, _, module = convert(
        lambda x: torch.nn.functional.linear(x, dequantized(ROWS, 2.0**-8)), image(3, 8)
    )
    assert operators(module) == ["Linear"]
    assert steps(wanted, result) <= 1

    wanted, result, _, module = convert(torch.matmul, image(3, 4) / 4, image(4, 2) / 4)
    assert operators(module) == ["MatMul"]
    assert steps(wanted, result) <= 1
