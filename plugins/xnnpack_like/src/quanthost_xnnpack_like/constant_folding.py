"""Computes at compile time the nodes that depend on no input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.fx import map_arg

from quanthost.api import Rewriter, constant
from quanthost_xnnpack_like.shapes import static_shape

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


__all__ = ["fold_constants"]

_LARGEST = 1 << 20


def fold_constants(graph_module: GraphModule) -> None:
    """Replace nodes that depend on no input by their values: positions, masks, tokens, transposed weights."""
    values: dict[Node, torch.Tensor] = {}
    for node in list(graph_module.graph.nodes):
        tensor = constant(graph_module, node)
        if tensor is not None:
            values[node] = tensor.detach()
        if not _is_foldable(node, values):
            continue
        args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
        with torch.no_grad():
            value = node.target(*args, **kwargs)
        rewriter = Rewriter(graph_module, node)
        folded = rewriter.constant(value.clone(memory_format=torch.contiguous_format), "_folded")
        rewriter.replace_with(folded)
        values[folded] = value


def _is_foldable(node: Node, values: dict[Node, torch.Tensor]) -> bool:
    shape = static_shape(node)
    # the number of elements of an unknown size can't be compared
    if node.op != "call_function" or shape is None or math.prod(shape) > _LARGEST:
        return False
    if not all(source in values for source in node.all_input_nodes):
        return False
    op = node.target
    if not isinstance(op, torch._ops.OpOverload) or op._schema.is_mutable:
        return False
    return torch.Tag.nondeterministic_seeded not in op.tags
