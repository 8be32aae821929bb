"""What an integer operator needs to know of its place in a q/dq graph: operands, weights, clamps."""

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
    """Raised with the reason why an operator stays float."""


@attrs.frozen
class Operand:
    """A node of integers, and what they stand for."""

    node: fx.Node
    numbers: Numbers


@attrs.frozen
class Weight:
    """A constant of integers without zero point; ``scale`` float32 ``[C]`` along ``axis``, or one number."""

    values: Tensor
    scale: Tensor | float
    axis: int | None


def title(node: fx.Node) -> str:
    """The name of the captured node that it comes from, its own where there is none."""
    return origin(node) or node.name


_SITE = "quanthost_site"


def site_of(node: fx.Node) -> str | None:
    """The captured operator or input whose integers a node makes; ``None`` where it makes no integers."""
    if node.op in ("placeholder", "get_attr", "output"):
        return None
    if is_quantize(node) and isinstance(node.args[0], fx.Node):
        return _made_by(node.args[0])
    name: str | None = node.meta.get(_SITE)
    return name


def _made_by(node: fx.Node) -> str:
    """The operator's name; a tensor that is only requantized has the name of its source."""
    source = node.args[0] if is_dequantize(node) else None
    return f"{_source_name(source)}, requantized" if isinstance(source, fx.Node) else title(node)


def _source_name(node: fx.Node) -> str:
    return site_of(node) or node.name


def mark_site(node: fx.Node, quantize: fx.Node) -> None:
    """Let a node stand for the result that a quantize node made."""
    node.meta[_SITE] = site_of(quantize)


def numbers_of(node: fx.Node) -> Numbers | None:
    """The numbers of a quantize or dequantize with one static range for the whole tensor, else ``None``."""
    parameters = qdq_parameters(node)
    if parameters is None or not parameters.are_numbers:
        return None
    return Numbers(
        # a float32 scale: what every kernel computes with
        scale=float(torch.tensor(parameters.scale, dtype=torch.float32)), zero_point=parameters.zero_point,
        low=parameters.quant_min, high=parameters.quant_max, dtype=parameters.dtype,
    )  # fmt: skip


def weight_of(module: fx.GraphModule, node: object) -> Weight:
    """The integers behind a dequantized constant.

    Raises:
        Island: it is no quantized constant.
    """
    parameters = qdq_parameters(node)
    if parameters is None or not isinstance(node, fx.Node) or not is_dequantize(node):
        raise Island("its weight is not quantized")
    values = constant(module, node.args[0])
    if values is None:
        raise Island("its weight is not quantized")
    name = operator_name(node)
    if name.endswith("dequantize_per_channel.default"):
        scales, zero_points = _constant_parameters(module, parameters)
        axis = parameters.axis
        assert axis is not None
        return Weight(_centred(values, zero_points, axis), scales.detach().to(torch.float32), axis)
    if name.endswith("dequantize_per_channel_group.default"):
        return _grouped(module, parameters, values)
    numbers = numbers_of(node)
    if numbers is None:
        raise Island(f"its weight is dequantized by {name}, which has no integer form")
    return Weight(_centred(values, torch.tensor(numbers.zero_point), None), numbers.scale, None)


def _constant_parameters(module: fx.GraphModule, parameters: QdqParameters) -> tuple[Tensor, Tensor | None]:
    scales = constant(module, parameters.scale)
    if scales is None:
        raise Island("the scales of its weight are computed")
    return scales, constant(module, parameters.zero_point)


_GROUP_PLACES = 7


def _grouped(module: fx.GraphModule, parameters: QdqParameters, values: Tensor) -> Weight:
    """One scale a row: the largest of its groups, of which the others are multiples of ``2^-7``.

    The multiples are part of the weight's integers, so that one accumulator sums all groups. A group's
    scale is off by at most ``2^-8`` of the row's largest.
    """
    scales, zero_points = _constant_parameters(module, parameters)
    if zero_points is not None and bool(zero_points.any()):
        raise Island("groups of its weight have zero points")
    rows, groups = scales.shape
    largest = scales.detach().double().amax(1)
    multiples = torch.round(scales.detach().double() / largest[:, None] * 2**_GROUP_PLACES).to(torch.int16)
    integers = values.detach().reshape(rows, groups, -1).to(torch.int16) * multiples[:, :, None]
    return Weight(integers.reshape(values.shape), (largest * 2.0**-_GROUP_PLACES).to(torch.float32), 0)


def _centred(values: Tensor, zero_points: Tensor | None, axis: int | None) -> Tensor:
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
    """Whether each element of the result is a function of the same element of one tensor."""
    op = overload(node) if node.op == "call_function" else None
    if op is None or not node.args or not isinstance(node.args[0], fx.Node):
        return False
    if torch.Tag.pointwise not in op.tags and not operator_facts(node).is_elementwise:
        return False
    others = [source for source in node.all_input_nodes if source is not node.args[0]]
    if sum(argument is node.args[0] for argument in node.args) > 1 and base_name(node) not in ("mul", "add"):
        return False
    constants = [constant(module, source) for source in others]
    return all(value is not None and value.numel() == 1 for value in constants)
