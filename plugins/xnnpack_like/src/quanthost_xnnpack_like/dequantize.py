"""A dequantize for each reader: the delegate turns the layout of a shared one for all that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quanthost.api import is_dequantize

if TYPE_CHECKING:
    from torch.fx import GraphModule

__all__ = ["dequantize_for_each_reader"]


def dequantize_for_each_reader(graph_module: GraphModule) -> Any:
    """An edge pass: readers of one dequantized tensor read one dequantize each, results of the program too.

    If one reader needs the tensor contiguous and another channels-last,
    ``ChannelsLastTaggedReshapePass`` of ``executorch.backends.xnnpack`` 1.5.1 hands the first one's copy
    to both.
    """
    from torch.fx.passes.infra.pass_base import PassResult

    modified = False
    for node in list(graph_module.graph.nodes):
        if not is_dequantize(node):
            continue
        for reader in list(node.users)[1:]:
            with graph_module.graph.inserting_after(node):
                own = graph_module.graph.node_copy(node)
            reader.replace_input_with(node, own)
            modified = True
    return PassResult(graph_module, modified)
