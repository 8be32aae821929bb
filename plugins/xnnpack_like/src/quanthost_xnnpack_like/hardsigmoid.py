"""Hardsigmoid, which the delegate has no kernel for: its slope goes into the layer that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from quanthost.api import Rewriter, argument, constant, operator_name

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

__all__ = ["hardsigmoid_into_layer"]

_LAYERS = ("aten.conv1d.", "aten.conv2d.", "aten.linear.")
_SLOPE, _OFFSET = 1 / 6, 0.5


def hardsigmoid_into_layer(graph_module: GraphModule) -> None:
    """hardsigmoid(W x + b) becomes clamp((W / 6) x + (b / 6 + 1/2), 0, 1), one kernel of the delegate."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or not operator_name(node).startswith("aten.hardsigmoid."):
            continue
        layer = node.args[0]
        if not operator_name(layer).startswith(_LAYERS) or len(layer.users) > 1:
            continue
        scaled = _scaled(graph_module, layer)
        if scaled is None:
            continue
        rewriter = Rewriter(graph_module, node)
        rewriter.replace_with(rewriter.call(torch.ops.aten.hardtanh.default, scaled, 0.0, 1.0))


def _scaled(graph_module: GraphModule, layer: Node) -> Node | None:
    """The layer with a sixth of its weight and bias, and a half more; ``None`` where they vary."""
    held = argument(layer, "bias")
    weight = constant(graph_module, argument(layer, "weight"))
    bias = constant(graph_module, held) if held is not None else None
    if weight is None or (held is not None and bias is None):
        return None
    offset = torch.full(weight.shape[:1], _OFFSET, dtype=weight.dtype)
    values = weight.detach() * _SLOPE, offset if bias is None else bias.detach() * _SLOPE + offset
    rewriter = Rewriter(graph_module, layer)
    trains = isinstance(weight, nn.Parameter)
    constants = (
        rewriter.constant(nn.Parameter(value) if trains else value, name)
        for value, name in zip(values, ("_gate_weight", "_gate_bias"))
    )
    made = rewriter.call(layer.target, layer.args[0], *constants, *layer.args[3:], **layer.kwargs)
    rewriter.replace_with(made)
    return made
