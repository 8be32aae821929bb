"""Reads the nodes around an operator in a q/dq graph: scales, integer weights, clamps, names of results."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, fx

from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument, base_name, operator_name, overload
from quanthost.graph.qdq import QdqParameters, qdq_parameters
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
    parameters = qdq_parameters(node)
    if parameters is None or not parameters.are_numbers:
        return None
    return Numbers(
        # every kernel computes with a float32 scale
        scale=float(torch.tensor(parameters.scale, dtype=torch.float32)), zero_point=parameters.zero_point,
        low=parameters.quant_min, high=parameters.quant_max, dtype=parameters.dtype,
    )  # fmt: skip


def weight_of(module: fx.GraphModule, node: object) -> Weight:
    """The integers behind a dequantized constant.

    Raises:
        Island: the weight is not a quantized constant.
    """
    parameters = qdq_parameters(node)
    if parameters is None or not isinstance(node, fx.Node) or not is_dequantize(node):
        raise Island("its weight is not quantized")
    integers = constant(module, node.args[0])
    if integers is None:
        raise Island("its weight is not quantized")
    name = operator_name(node)
    if name.endswith("dequantize_per_channel.default"):
        scales, zero_points = _constant_parameters(module, parameters)
        axis = parameters.axis
        assert axis is not None
        return Weight(_centre(integers, zero_points, axis), scales.detach().to(torch.float32), axis)
    if name.endswith("dequantize_per_channel_group.default"):
        return _merge_groups(module, parameters, integers)
    numbers = numbers_of(node)
    if numbers is None:
        raise Island(f"its weight is dequantized by {name}, which has no integer form")
    return Weight(_centre(integers, torch.tensor(numbers.zero_point), None), numbers.scale, None)


def _constant_parameters(module: fx.GraphModule, parameters: QdqParameters) -> tuple[Tensor, Tensor | None]:
    scales = constant(module, parameters.scale)
    if scales is None:
        raise Island("the scales of its weight are computed")
    return scales, constant(module, parameters.zero_point)


_GROUP_PLACES = 7


def _merge_groups(module: fx.GraphModule, parameters: QdqParameters, integers: Tensor) -> Weight:
    """Give each row one scale: the largest of its groups; the others become multiples of ``2^-7`` of it.

    The weight's integers are multiplied by the multiples, so that one accumulator sums all groups. The
    error of a group's scale is at most ``2^-8`` of the row's largest.
    """
    scales, zero_points = _constant_parameters(module, parameters)
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
    bounds = operator_facts(node).clamps
    if bounds is None:
        return None
    low, high = (argument(node, bound) if isinstance(bound, str) else bound for bound in bounds)
    if isinstance(low, fx.Node) or isinstance(high, fx.Node):
        return None
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)


def is_function_of_one(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether each element of the result depends only on the same element of one tensor."""
    op = overload(node) if node.op == "call_function" else None
    if op is None or not node.args or not isinstance(node.args[0], fx.Node):
        return False
    if torch.Tag.pointwise not in op.tags and not operator_facts(node).is_elementwise:
        return False
    others = [source for source in node.all_input_nodes if source is not node.args[0]]
    if sum(argument is node.args[0] for argument in node.args) > 1 and base_name(node) not in ("mul", "add"):
        return False
    values = [constant(module, source) for source in others]
    return all(value is not None and value.numel() == 1 for value in values)
