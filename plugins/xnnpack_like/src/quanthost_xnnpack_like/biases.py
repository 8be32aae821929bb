"""A bias for each layer: the delegate keeps one quantized form of a tensor, and layers differ in scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from quanthost.api import Rewriter, argument, constant, operator_name

if TYPE_CHECKING:
    from torch.fx import GraphModule

__all__ = ["bias_for_each_layer"]

_LAYERS = ("aten.conv1d.", "aten.conv2d.", "aten.conv_transpose1d.", "aten.conv_transpose2d.", "aten.linear.")


def bias_for_each_layer(graph_module: GraphModule) -> None:
    """Where several layers read one bias (a module called twice), all but the first get a copy."""
    seen: set[int] = set()
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or not operator_name(node).startswith(_LAYERS):
            continue
        bias = argument(node, "bias")
        held = constant(graph_module, bias)
        if held is None:
            continue
        if id(held) in seen:
            copied = held.detach().clone()
            own = nn.Parameter(copied) if isinstance(held, nn.Parameter) else copied
            node.replace_input_with(bias, Rewriter(graph_module, node).constant(own, "_own_bias"))
        seen.add(id(held))
    graph_module.recompile()
