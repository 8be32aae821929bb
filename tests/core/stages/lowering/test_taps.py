"""Integers inside of a graph are returned, by the name of what makes them."""

from __future__ import annotations

import torch
from sample_graphs import graph_of
from torch.ao.quantization.fx import _decomposed  # noqa: F401  # registers quantize and dequantize

from quanthost.stages.lowering.taps import run_tapped, tap

X = torch.linspace(-1, 1, 8).reshape(2, 4)
NUMBERS = (2.0**-6, 0, -128, 127, torch.int8)


def _around(x: torch.Tensor) -> torch.Tensor:
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    dequantize = torch.ops.quantized_decomposed.dequantize_per_tensor.default
    inner = torch.tanh(dequantize(quantize(x, *NUMBERS), *NUMBERS))
    return dequantize(quantize(inner, *NUMBERS), *NUMBERS).neg()


def test_both_ways_agree() -> None:
    """A graph that returns its integers gives those that a walk through the graph sees."""
    graph = graph_of(_around, X)
    outputs, seen = run_tapped(graph, [X])
    names = tap(graph)
    result, *integers = graph(X)

    assert len(names) == 2
    assert torch.equal(result, outputs[0])
    assert all(tensor.dtype is torch.int8 for tensor in integers)
    assert all(torch.equal(seen[name], tensor) for name, tensor in zip(names, integers, strict=True))
