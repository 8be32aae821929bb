"""Inputs and outputs of a converted graph: their quantization parameters, and integers instead of float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, fx

from quanthost.arith.dtypes import torch_dtype
from quanthost.errors import RequestError
from quanthost.graph.leaves import LeafSpec, TensorSpec
from quanthost.graph.operators import operator_name
from quanthost.graph.qdq import qdq_parameters
from quanthost.graph.signature import Signature
from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.integer.sites import numbers_of
from quanthost.values import DType, Io, TensorQParams

__all__ = [
    "example",
    "input_qparams",
    "keep_integers",
    "output_qparams",
    "write_group_scales",
    "write_primitives",
]

_INTEGERS = "quanthost_integers"


def input_qparams(module: fx.GraphModule) -> tuple[TensorQParams, ...]:
    """Quantization parameters of the inputs that a quantize node reads."""
    qparams = (
        _qparams(node.name, user)
        for node in module.graph.nodes
        if node.op == "placeholder"
        for user in node.users
        if is_quantize(user)
    )
    return tuple(item for item in qparams if item is not None)


def output_qparams(module: fx.GraphModule) -> tuple[TensorQParams, ...]:
    """Quantization parameters of the outputs that a dequantize node returns."""
    leaves = module.graph.output_node().args[0]
    qparams = (_qparams(leaf.name, leaf) for leaf in leaves if is_dequantize(leaf))
    return tuple(item for item in qparams if item is not None)


def _qparams(name: str, node: fx.Node) -> TensorQParams | None:
    parameters = qdq_parameters(node)
    if parameters is None or not parameters.are_numbers:
        return None
    return TensorQParams(
        name=name, scale=float(parameters.scale), zero_point=parameters.zero_point,
        quant_min=parameters.quant_min, quant_max=parameters.quant_max,
    )  # fmt: skip


def keep_integers(module: fx.GraphModule, signature: Signature, io: Io) -> Signature:
    """Make a graph take and return integers in place of the floats that it quantizes and dequantizes.

    Raises:
        RequestError: a float input or output has no integers of that type.
    """
    graph = module.graph
    placeholders = graph.find_nodes(op="placeholder")
    inputs = [_input(graph, node, leaf, io) for node, leaf in zip(placeholders, signature.inputs)]
    output = graph.output_node()
    results = list(output.args[0])
    leaves = [_output(node, leaf, io) for node, leaf in zip(results, signature.outputs)]
    output.args = ([node for node, _ in leaves],)
    graph.eliminate_dead_code()
    module.recompile()
    return attrs.evolve(signature, inputs=tuple(inputs), outputs=tuple(leaf for _, leaf in leaves))


def _input(graph: fx.Graph, node: fx.Node, leaf: LeafSpec, io: Io) -> LeafSpec:
    if not isinstance(leaf, TensorSpec) or not leaf.dtype.is_floating_point:
        return leaf
    users = list(node.users)
    kinds = {numbers_of(user) if is_quantize(user) else None for user in users}
    numbers = next(iter(kinds)) if len(kinds) == 1 else None
    if numbers is None or numbers.dtype is not torch_dtype(DType(io.value)):
        raise _no_integers(f"the input {leaf.name}", [user for user in users if not is_quantize(user)], io)
    for user in users:
        user.replace_all_uses_with(node)
        graph.erase_node(user)
    node.meta[_INTEGERS] = numbers
    return attrs.evolve(leaf, dtype=numbers.dtype)


def _output(node: Any, leaf: LeafSpec, io: Io) -> tuple[Any, LeafSpec]:
    if not isinstance(leaf, TensorSpec) or not leaf.dtype.is_floating_point:
        return node, leaf
    numbers = numbers_of(node) if is_dequantize(node) else None
    if numbers is None or numbers.dtype is not torch_dtype(DType(io.value)):
        raise _no_integers(f"the output {leaf.name}", [node], io)
    return node.args[0], attrs.evolve(leaf, dtype=numbers.dtype)


def _no_integers(what: str, nodes: Sequence[fx.Node], io: Io) -> RequestError:
    beside = ", ".join(node.name for node in nodes) or "quantizers of other types"
    return RequestError(
        f"io={io.value!r}, but {what} is float beside {beside}", stage="lower", value=io,
        needed=f"inputs and outputs that are quantized to {io.value} with one set of parameters",
        remedy="quantize the first and last operators too (placement='all'), or lower with io='float'",
    )  # fmt: skip


def example(node: fx.Node, leaf: Any) -> Any:
    """An example input, quantized if the placeholder takes integers."""
    numbers = node.meta.get(_INTEGERS)
    return leaf if numbers is None else numbers.nearest(leaf.double()).to(numbers.dtype)


def write_primitives(module: fx.GraphModule) -> None:
    """Replace quantize and dequantize by primitive operators, for which portable kernels exist."""
    for node in module.graph.nodes:
        written = _WRITTEN.get(operator_name(node)) if node.op == "call_function" else None
        if written is not None:
            node.target = written
    module.recompile()


def _quantize(
    x: Tensor, scale: float, zero_point: int, quant_min: int, quant_max: int, dtype: torch.dtype
) -> Tensor:
    """As ``quantized_decomposed``: multiplies by the reciprocal of the scale, and rounds ties to even."""
    return torch.clamp(torch.round(x * (1.0 / scale)) + zero_point, quant_min, quant_max).to(dtype)


def _dequantize(
    x: Tensor,
    scale: float,
    zero_point: int,
    quant_min: int,
    quant_max: int,
    dtype: torch.dtype,
    *,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    return (x.to(torch.float32) - zero_point) * scale


def write_group_scales(module: fx.GraphModule) -> None:
    """Do the same for weights with scales per group, for which only delegates have kernels."""
    for node in module.graph.nodes:
        if node.op == "call_function" and operator_name(node) == _GROUPS:
            node.target = _dequantize_groups
    module.recompile()


_GROUPS = "quantized_decomposed.dequantize_per_channel_group.default"


def _dequantize_groups(
    weight: Tensor, scales: Tensor, zero_points: Tensor, low: int, high: int, dtype: torch.dtype, size: int,
    out_dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    rows, groups = scales.shape
    centred = weight.reshape(rows, groups, size).to(out_dtype) - zero_points.unsqueeze(2)
    return (centred * scales.unsqueeze(2)).reshape(rows, groups * size)


_WRITTEN = {
    "quantized_decomposed.quantize_per_tensor.default": _quantize,
    "quantized_decomposed.dequantize_per_tensor.default": _dequantize,
}
