"""Reads the nodes around an operator in a q/dq graph: scales, integer weights, clamps, names of results."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, fx

from quanthost.graph.operators import argument, operator_name, overload
from quanthost.graph.rewrite import origin
from quanthost.graph.view import constant, is_dequantize, is_quantize
from quanthost.integer.numbers import Numbers

__all__ = [
    "Island",
    "Operand",
    "Weight",
    "base_name",
    "clamp_bounds",
    "is_function_of_one",
    "mark_site",
    "numbers_of",
    "site_of",
    "title",
    "weight_of",
]


class Island(Exception):
    """Raised with the reason why an operator stays in float."""


@attrs.frozen
class Operand:
    """A node of integers with their scale and zero point."""

    node: fx.Node
    numbers: Numbers


@attrs.frozen
class Weight:
    """Constant integers with zero point 0; ``scale`` is float32 ``[C]`` along ``axis``, or one number."""

    values: Tensor
    scale: Tensor | float
    axis: int | None


def base_name(node: fx.Node) -> str:
    """``"conv2d"``: the operator without namespace and overload, ``""`` if it is not an aten operator."""
    if node.op != "call_function":
        return ""
    parts = operator_name(node).split(".")
    return parts[1] if len(parts) == 3 and parts[0] == "aten" else ""


def title(node: fx.Node) -> str:
    """The name of the captured node that a node comes from, else the node's own."""
    return origin(node) or node.name


_SITE = "quanthost_site"


def site_of(node: fx.Node) -> str | None:
    """The captured node or input whose result a node computes in integers; ``None`` for other nodes."""
    if node.op in ("placeholder", "get_attr", "output"):
        return None
    if is_quantize(node) and isinstance(node.args[0], fx.Node):
        return _producer(node.args[0])
    name: str | None = node.meta.get(_SITE)
    return name


def _producer(node: fx.Node) -> str:
    """The operator's name; a tensor that is only requantized keeps the name of its source."""
    source = node.args[0] if is_dequantize(node) else None
    if isinstance(source, fx.Node):
        return f"{site_of(source) or source.name}, requantized"
    return title(node)


def mark_site(node: fx.Node, quantize: fx.Node) -> None:
    """Record that a node replaces the result of a quantize node."""
    node.meta[_SITE] = site_of(quantize)


def numbers_of(node: fx.Node) -> Numbers | None:
    """The scale and zero point of a per-tensor quantize or dequantize node; ``None`` for other nodes."""
    if not operator_name(node).endswith("quantize_per_tensor.default"):
        return None
    scale, zero_point = argument(node, "scale"), argument(node, "zero_point")
    if not isinstance(scale, (int, float)) or not isinstance(zero_point, int):
        return None
    return Numbers(
        # every kernel computes with a float32 scale
        scale=float(torch.tensor(scale, dtype=torch.float32)), zero_point=zero_point,
        low=argument(node, "quant_min"), high=argument(node, "quant_max"), dtype=argument(node, "dtype"),
    )  # fmt: skip


def weight_of(module: fx.GraphModule, node: object) -> Weight:
    """The integers behind a dequantized constant.

    Raises:
        Island: the weight is not a quantized constant.
    """
    integers = constant(module, node.args[0]) if isinstance(node, fx.Node) and is_dequantize(node) else None
    if integers is None or not isinstance(node, fx.Node):
        raise Island("its weight is not quantized")
    name = operator_name(node)
    if name.endswith("dequantize_per_channel.default"):
        scales, zero_points = (constant(module, argument(node, key)) for key in ("scales", "zero_points"))
        axis = int(argument(node, "axis"))
        if scales is None:
            raise Island("the scales of its weight are computed")
        return Weight(_centre(integers, zero_points, axis), scales.detach().to(torch.float32), axis)
    if name.endswith("dequantize_per_channel_group.default"):
        return _merge_groups(module, node, integers)
    numbers = numbers_of(node)
    if numbers is None:
        raise Island(f"its weight is dequantized by {name}, which has no integer form")
    return Weight(_centre(integers, torch.tensor(numbers.zero_point), None), numbers.scale, None)


_GROUP_PLACES = 7


def _merge_groups(module: fx.GraphModule, node: fx.Node, integers: Tensor) -> Weight:
    """Give each row one scale: the largest of its groups; the others become multiples of ``2^-7`` of it.

    The weight's integers are multiplied by the multiples, so that one accumulator sums all groups. The
    error of a group's scale is at most ``2^-8`` of the row's largest.
    """
    scales, zero_points = (constant(module, argument(node, key)) for key in ("scales", "zero_points"))
    if scales is None:
        raise Island("the scales of its weight are computed")
    if zero_points is not None and bool(zero_points.any()):
        raise Island("its weight has groups with zero points")
    rows, groups = scales.shape
    largest = scales.detach().double().amax(1)
    multiples = torch.round(scales.detach().double() / largest[:, None] * 2**_GROUP_PLACES).to(torch.int16)
    values = integers.detach().reshape(rows, groups, -1).to(torch.int16) * multiples[:, :, None]
    return Weight(values.reshape(integers.shape), (largest * 2.0**-_GROUP_PLACES).to(torch.float32), 0)


def _centre(values: Tensor, zero_points: Tensor | None, axis: int | None) -> Tensor:
    if zero_points is None or not bool(zero_points.any()):
        return values.detach()
    shape = [1] * values.dim()
    if axis is not None:
        shape[axis] = -1
    return (values.to(torch.int16) - zero_points.to(torch.int16).reshape(shape)).detach()


def clamp_bounds(node: fx.Node) -> tuple[float, float] | None:
    """The real bounds of an operator that only clamps, ``None`` for any other."""
    name = base_name(node)
    if name == "relu":
        return 0.0, math.inf
    if name == "relu6":
        return 0.0, 6.0
    names = {"hardtanh": ("min_val", "max_val"), "clamp": ("min", "max")}.get(name)
    if names is None:
        return None
    low, high = (argument(node, key) for key in names)
    if isinstance(low, fx.Node) or isinstance(high, fx.Node):
        return None
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)


def is_function_of_one(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether each element of the result depends only on the same element of one tensor."""
    op = overload(node) if node.op == "call_function" else None
    if op is None or not node.args or not isinstance(node.args[0], fx.Node):
        return False
    if torch.Tag.pointwise not in op.tags and base_name(node) not in _POINTWISE:
        return False
    others = [source for source in node.all_input_nodes if source is not node.args[0]]
    if sum(argument is node.args[0] for argument in node.args) > 1 and base_name(node) not in ("mul", "add"):
        return False
    values = [constant(module, source) for source in others]
    return all(value is not None and value.numel() == 1 for value in values)


# functions that torch 2.13 does not tag as pointwise
_POINTWISE = ("hardswish", "hardsigmoid", "hardtanh", "relu6", "silu", "mish", "selu", "celu", "softplus")
