"""Graphs in q/dq form around one operator, and what becomes of them in integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from sample_graphs import graph_of
from torch import Tensor, fx
from torch.ao.quantization.fx import _decomposed  # noqa: F401  # registers quantize and dequantize

from quanthost.integer.conversion import IntegerForms, to_integers
from quanthost.values import FP32_HALF_EVEN, ArithmeticProfile

__all__ = ["SCALE", "convert", "dequantized", "fake_quantize", "image", "operators", "steps"]

SCALE = 2.0**-5
_OPS = torch.ops.quantized_decomposed


def fake_quantize(x: Tensor, scale: float = SCALE, zero_point: int = -3) -> Tensor:
    """Quantize to int8 and dequantize again."""
    numbers = (scale, zero_point, -128, 127, torch.int8)
    return _OPS.dequantize_per_tensor(_OPS.quantize_per_tensor(x, *numbers), *numbers)


def dequantized(values: Tensor, scale: float = 2.0**-6) -> Tensor:
    """An int8 weight without zero point."""
    return _OPS.dequantize_per_tensor(values, scale, 0, -127, 127, torch.int8)


def image(*shape: int) -> Tensor:
    """Values from -2 to 2, the same each time."""
    count = torch.Size(shape).numel()
    return (torch.arange(count) * 37 % count / count * 4 - 2).reshape(shape)


def convert(
    function: Callable[..., Any], *inputs: Tensor, profile: ArithmeticProfile = FP32_HALF_EVEN
) -> tuple[Tensor, Tensor, IntegerForms, fx.GraphModule]:
    """Put a function between quantized tensors: the q/dq form's result, the integer form's, and the form."""

    def around(*given: Tensor) -> Tensor:
        return fake_quantize(function(*map(fake_quantize, given)))

    module = graph_of(around, *inputs)
    wanted = module(*inputs)
    forms = to_integers(module, profile)
    return wanted, module(*inputs), forms, module


def steps(wanted: Tensor, result: Tensor) -> float:
    """The largest difference in steps of the result's scale."""
    return float((wanted - result).abs().max() / SCALE)


def operators(module: fx.GraphModule) -> Sequence[str]:
    """The classes of the integer operators that a graph calls."""
    calls = module.graph.find_nodes(op="call_module")
    return [type(module.get_submodule(str(node.target))).__name__ for node in calls]
