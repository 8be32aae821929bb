"""What is read from a graph around an operator: names, clamps, numbers and weights."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from qdq_graphs import SCALE, dequantized, fake_quantize, image
from sample_graphs import graph_of, node_of

from quanthost.graph.view import is_dequantize
from quanthost.integer.sites import Island, base_name, clamp_bounds, is_function_of_one, numbers_of, weight_of


def test_operators_that_only_clamp() -> None:
    """Their bounds are real numbers; a missing one is infinite."""
    graph = graph_of(lambda x: F.relu(F.relu6(torch.clamp(x, max=2.0)) + torch.tanh(x)), image(2, 3))

    assert clamp_bounds(node_of(graph, "relu")) == (0.0, math.inf)
    assert clamp_bounds(node_of(graph, "clamp")) == (-math.inf, 2.0)
    assert clamp_bounds(node_of(graph, "tanh")) is None
    assert base_name(node_of(graph, "tanh")) == "tanh"
    assert is_function_of_one(graph, node_of(graph, "tanh"))
    assert not is_function_of_one(graph, node_of(graph, "add"))


def test_numbers_and_weights() -> None:
    """A quantize node says what its integers stand for; a weight must be a quantized constant."""
    held = torch.arange(-6, 6).reshape(4, 3).to(torch.int8)
    graph = graph_of(lambda x: F.linear(fake_quantize(x), dequantized(held)), image(2, 3))
    before, weight = node_of(graph, "linear").args[:2]

    found = numbers_of(before)
    assert found is not None
    assert (found.scale, found.zero_point, found.low, found.high) == (SCALE, -3, -128, 127)
    assert is_dequantize(weight)
    assert torch.equal(weight_of(graph, weight).values, held)
    with pytest.raises(Island, match="its weight is not quantized"):
        weight_of(graph, before)
