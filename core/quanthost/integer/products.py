"""Rules that build the integer forms of convolutions, linear layers and matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from quanthost.graph.operators import argument
from quanthost.graph.view import constant, is_dequantize
from quanthost.integer.building import Builder, Rule, per_dimension
from quanthost.integer.kernels.products import Convolution, Linear, MatMul
from quanthost.integer.numbers import Numbers
from quanthost.integer.sites import Island, base_name, weight_of

__all__ = ["PRODUCTS"]


def _convolution(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operand(core.args[0], quantize)
    weight = weight_of(b.module, argument(core, "weight"))
    rank = weight.values.dim() - 2
    transposed = "transpose" in base_name(core) or bool(argument(core, "transposed", False))
    groups = int(argument(core, "groups", 1))
    bias = b.bias(core, argument(core, "bias"), operand, weight.scale)
    if weight.axis is not None and weight.axis != (1 if transposed else 0):
        raise Island(f"its weight has scales along dimension {weight.axis}")
    rows = _rows(weight.values, groups) if transposed else weight.values.flatten(1)
    output = b.accumulate(core, operand, rows, bias, weight.scale, out, [-1, *[1] * rank])
    stride, dilation = (per_dimension(argument(core, key), rank, 1) for key in ("stride", "dilation"))
    padding, pad = _padding(argument(core, "padding"), weight.values.shape[2:], dilation)
    operator = Convolution(
        weight.values, bias, output, zero_point=operand.numbers.zero_point, stride=stride,
        padding=padding, pad=pad, dilation=dilation, transposed=transposed, groups=groups,
        output_padding=per_dimension(argument(core, "output_padding"), rank, 0),
    )  # fmt: skip
    return b.call(quantize, core, operator, operand.node)


def _rows(weight: Tensor, groups: int) -> Tensor:
    """The weights of each output channel of a transposed convolution, ``[C, K]``."""
    inputs, outputs = weight.shape[0] // groups, weight.shape[1]
    return weight.reshape(groups, inputs, outputs, -1).transpose(1, 2).reshape(groups * outputs, -1)


def _padding(value: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding of both sides; if the sides differ, instead the argument of ``torch.nn.functional.pad``."""
    if not isinstance(value, str):
        return per_dimension(value, len(kernel), 0), []
    totals = [d * (k - 1) if value == "same" else 0 for k, d in zip(kernel, dilation)]
    if not any(total % 2 for total in totals):
        return [total // 2 for total in totals], []
    pad = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    return [0] * len(kernel), pad


def _linear(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    name = base_name(core)
    if name == "linear":
        x, matrix, addend = core.args[0], argument(core, "weight"), argument(core, "bias")
    elif name == "addmm":
        x, matrix, addend = argument(core, "mat1"), argument(core, "mat2"), argument(core, "self")
        if argument(core, "alpha", 1) != 1 or argument(core, "beta", 1) != 1:
            raise Island("alpha or beta is not 1")
    else:
        x, matrix, addend = core.args[0], core.args[1], None
    operand = b.operand(x, quantize)
    weight = weight_of(b.module, matrix)
    values = weight.values if name == "linear" else weight.values.t()
    axis = None if weight.axis is None else (weight.axis if name == "linear" else 1 - weight.axis)
    if axis:
        raise Island("its weight has scales along its rows")
    bias = b.bias(core, addend, operand, weight.scale)
    output = b.accumulate(core, operand, values, bias, weight.scale, out, [-1])
    operator = Linear(values.contiguous(), bias, output, zero_point=operand.numbers.zero_point)
    return b.call(quantize, core, operator, operand.node)


def _matmul(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    other = core.args[1]
    if isinstance(other, fx.Node) and is_dequantize(other):
        weight = constant(b.module, other.args[0])
        if weight is not None and weight.dim() == 2:
            return _linear(b, quantize, core, out)
    first, second = b.operands(core.args[:2], quantize)
    depth = core.args[0].meta["val"].shape[-1]
    if not isinstance(depth, int):
        raise Island("the number of products that it sums is dynamic")
    bound = depth * first.numbers.reach * second.numbers.reach
    output = b.output(core, [first.numbers.scale, second.numbers.scale], out, bound)
    zero_points = (first.numbers.zero_point, second.numbers.zero_point)
    return b.call(quantize, core, MatMul(output, zero_points=zero_points), first.node, second.node)


PRODUCTS: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("conv1d", "conv2d", "convolution", "conv_transpose1d", "conv_transpose2d"), _convolution
    ),
    **dict.fromkeys(("linear", "addmm"), _linear),
    **dict.fromkeys(("mm", "bmm", "matmul"), _matmul),
}
