"""Copies of graphs that share their tensors."""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.fx.traceback import NodeSource, NodeSourceAction

__all__ = ["copy_graph"]


def copy_graph(module: fx.GraphModule, codegen: Any = None) -> fx.GraphModule:
    """Copy the nodes, share the tensors; the copy of a node's metadata is one level deep.

    Without the ``codegen`` of ``module``, the copy takes and returns flat lists.
    """
    graph = fx.Graph()
    if codegen is not None:
        graph.set_codegen(codegen)
    copies: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(module.graph, copies, return_output_node=True)
    if result is not None:
        value, old = result
        node = graph.output(value)
        node.meta = dict(old.meta)
    for old, new in copies.items():
        # as tracing does: debug handles use the first node of this chain
        if new.op != "placeholder" and "from_node" not in new.meta:
            new.meta["from_node"] = [NodeSource(old, "copy_graph", NodeSourceAction.CREATE)]
    copied = fx.GraphModule(module, graph)
    copied.meta = dict(module.meta)
    return copied
