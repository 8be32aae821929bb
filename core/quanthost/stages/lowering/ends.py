"""The ends of a program: where float becomes integers and integers float, or where neither does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, fx

from quanthost.errors import RequestError
from quanthost.graph.leaves import LeafSpec, TensorSpec
from quanthost.graph.operators import argument, operator_name
from quanthost.graph.signature import Signature
from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.integer.sites import numbers_of
from quanthost.values import Io, TensorQParams

__all__ = ["example", "input_qparams", "keep_integers", "output_qparams", "write_group_scales", "write_out"]

_INTEGERS = "quanthost_integers"
_IO = {Io.INT8: torch.int8, Io.UINT8: torch.uint8, Io.INT16: torch.int16}


def input_qparams(module: fx.GraphModule) -> tuple[TensorQParams, ...]:
    """Parameters of the inputs that are quantized at once."""
    found = (
        _qparams(node.name, user)
        for node in module.graph.nodes
        if node.op == "placeholder"
        for user in node.users
        if is_quantize(user)
    )
    return tuple(item for item in found if item is not None)


def output_qparams(module: fx.GraphModule) -> tuple[TensorQParams, ...]:
    """Parameters of the outputs that are dequantized last."""
    leaves = module.graph.output_node().args[0]
    found = (_qparams(leaf.name, leaf) for leaf in leaves if is_dequantize(leaf))
    return tuple(item for item in found if item is not None)


def _qparams(name: str, node: fx.Node) -> TensorQParams | None:
    values = {key: argument(node, key) for key in ("scale", "zero_point", "quant_min", "quant_max")}
    if any(not isinstance(value, (int, float)) for value in values.values()):
        return None
    return TensorQParams(
        name=name, scale=float(values["scale"]), zero_point=int(values["zero_point"]),
        quant_min=int(values["quant_min"]), quant_max=int(values["quant_max"]),
    )  # fmt: skip


def keep_integers(module: fx.GraphModule, signature: Signature, io: Io) -> Signature:
    """Let a graph take and give the integers that it quantizes its inputs to and dequantizes its outputs
    from.

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
    if numbers is None or numbers.dtype is not _IO[io]:
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
    if numbers is None or numbers.dtype is not _IO[io]:
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
    """An example input, as integers where the placeholder takes integers."""
    numbers = node.meta.get(_INTEGERS)
    return leaf if numbers is None else numbers.nearest(leaf.double()).to(numbers.dtype)


def write_out(module: fx.GraphModule) -> None:
    """Put primitive operators in place of quantize and dequantize, so that portable kernels are enough."""
    for node in module.graph.nodes:
        written = _WRITTEN.get(operator_name(node)) if node.op == "call_function" else None
        if written is not None:
            node.target = written
    module.recompile()


def _quantize(
    x: Tensor, scale: float, zero_point: int, quant_min: int, quant_max: int, dtype: torch.dtype
) -> Tensor:
    """As ``quantized_decomposed``: times the reciprocal of the scale, ties to even."""
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
    """The same for weights with scales for groups of a row, which only delegates have kernels for."""
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
