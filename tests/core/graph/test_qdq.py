"""Parameters read off quantize and dequantize nodes of every kind."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
import torchao.quantization  # noqa: F401  # registers its operators
from torch import fx
from torchao.quantization.pt2e import quantize_pt2e  # noqa: F401  # registers quantized_decomposed

from quanthost.graph.qdq import QdqParameters, qdq_parameters

Q = torch.ops.quantized_decomposed
GRAPH = fx.Graph()
X, SCALES, POINTS = (GRAPH.placeholder(name) for name in ("x", "scales", "points"))
CHOSEN = GRAPH.call_function(operator.getitem, (X, 0))


def parameters(target: Any, *args: Any) -> QdqParameters | None:
    return qdq_parameters(GRAPH.call_function(target, (X, *args)))


CASES = {
    "per_tensor": (
        (Q.quantize_per_tensor.default, 0.5, 3, -128, 127, torch.int8),
        (0.5, 3, -128, 127, torch.int8, None),
    ),
    "per_channel": (
        (Q.dequantize_per_channel.default, SCALES, POINTS, 1, -127, 127, torch.int8),
        (SCALES, POINTS, -127, 127, torch.int8, 1),
    ),
    "per_channel_group": (
        (Q.dequantize_per_channel_group.default, SCALES, POINTS, -8, 7, torch.int8, 32, torch.float32),
        (SCALES, POINTS, -8, 7, torch.int8, None),
    ),
    "per_token": (
        (Q.dequantize_per_token.default, CHOSEN, POINTS, -128, 127, torch.int8, torch.float32),
        (CHOSEN, POINTS, -128, 127, torch.int8, None),
    ),
    "affine": (
        (torch.ops.torchao.dequantize_affine.default, [1, 32], SCALES, None, torch.int8, -8, 7),
        (SCALES, None, -8, 7, torch.int8, None),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_of_node(kind: str) -> None:
    """Scale, zero point, limits, dtype of the integers and axis, whatever the schema calls them."""
    (target, *args), expected = CASES[kind]
    read = parameters(target, *args)
    assert read is not None
    assert (read.scale, read.zero_point, read.quant_min, read.quant_max, read.dtype, read.axis) == expected
    assert read.are_numbers == (kind == "per_tensor")
    assert read.is_dynamic == (kind == "per_token")


def test_equal_parameters_are_equal() -> None:
    """Two nodes of one set of parameters compare equal, whether they quantize or dequantize."""
    one = parameters(Q.quantize_per_tensor.default, 0.5, 3, -128, 127, torch.int8)
    two = parameters(Q.dequantize_per_tensor.default, 0.5, 3, -128, 127, torch.int8)
    other = parameters(Q.dequantize_per_tensor.default, 0.25, 3, -128, 127, torch.int8)
    assert one == two != other
    assert hash(one) == hash(two)


def test_other_nodes_have_none() -> None:
    """Neither operators of another kind, nor what is no node."""
    assert qdq_parameters(X) is None
    assert parameters(torch.ops.aten.relu.default) is None
    assert qdq_parameters(0.5) is None
