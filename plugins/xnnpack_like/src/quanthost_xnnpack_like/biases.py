"""Gives each layer its own bias: the delegate quantizes a tensor once, but layers differ in scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from quanthost.api import Rewriter, argument, constant, operator_facts

if TYPE_CHECKING:
    from torch.fx import GraphModule

__all__ = ["bias_for_each_layer"]

# the result's channel axis in a linear layer, 1-d and 2-d convolutions: the delegate has no others
_CHANNEL_AXES = (-1, -2, -3)


def bias_for_each_layer(graph_module: GraphModule) -> None:
    """If several layers read one bias (a module called twice), all but the first get a copy."""
    ids: set[int] = set()
    for node in list(graph_module.graph.nodes):
        if operator_facts(node).channel_axis not in _CHANNEL_AXES:
            continue
        bias = argument(node, "bias")
        value = constant(graph_module, bias)
        if value is None:
            continue
        if id(value) in ids:
            copied = value.detach().clone()
            own = nn.Parameter(copied) if isinstance(value, nn.Parameter) else copied
            node.replace_input_with(bias, Rewriter(graph_module, node).constant(own, "_own_bias"))
        ids.add(id(value))
    graph_module.recompile()
