"""Folds a hardsigmoid into the layer before it, since the delegate has no kernel for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from quanthost.api import Rewriter, argument, constant, operator_facts, operator_name

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

__all__ = ["hardsigmoid_into_layer"]

_SLOPE, _OFFSET = 1 / 6, 0.5


def hardsigmoid_into_layer(graph_module: GraphModule) -> None:
    """hardsigmoid(W x + b) becomes clamp((W / 6) x + (b / 6 + 1/2), 0, 1), one kernel of the delegate."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or not operator_name(node).startswith("aten.hardsigmoid."):
            continue
        layer = node.args[0]
        if not _is_scalable(layer) or len(layer.users) > 1:
            continue
        scaled = _scaled(graph_module, layer)
        if scaled is None:
            continue
        rewriter = Rewriter(graph_module, node)
        rewriter.replace_with(rewriter.call(torch.ops.aten.hardtanh.default, scaled, 0.0, 1.0))


def _is_scalable(layer: Node) -> bool:
    """Whether it is a linear layer or a 1-d or 2-d convolution, with output channels along axis 0."""
    facts = operator_facts(layer)
    return facts.channel_axis in (-1, -2, -3) and facts.weight_axis == 0


def _scaled(graph_module: GraphModule, layer: Node) -> Node | None:
    """The layer with a sixth of its weight and bias, and a half more; ``None`` if they are computed."""
    weight, bias = (constant(graph_module, argument(layer, name)) for name in ("weight", "bias"))
    if weight is None or (argument(layer, "bias") is not None and bias is None):
        return None
    offset = torch.full(weight.shape[:1], _OFFSET, dtype=weight.dtype)
    values = weight.detach() * _SLOPE, offset if bias is None else bias.detach() * _SLOPE + offset
    rewriter = Rewriter(graph_module, layer)
    trains = isinstance(weight, nn.Parameter)
    constants = (
        rewriter.constant(nn.Parameter(value) if trains else value, name)
        for value, name in zip(values, ("_gate_weight", "_gate_bias"))
    )
    scaled = rewriter.call(layer.target, layer.args[0], *constants, *layer.args[3:], **layer.kwargs)
    rewriter.replace_with(scaled)
    return scaled
