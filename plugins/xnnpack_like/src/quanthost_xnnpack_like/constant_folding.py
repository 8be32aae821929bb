"""Computes at compile time whatever depends on no input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.fx import map_arg

from quanthost.api import Rewriter, constant, tensor_meta
from quanthost_xnnpack_like.shapes import static_shape

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


__all__ = ["fold_constants"]

_LARGEST = 1 << 20


def fold_constants(graph_module: GraphModule) -> None:
    """Compute now what depends on no input: positions, masks, expanded tokens, transposed weights."""
    known: dict[Node, torch.Tensor] = {}
    for node in list(graph_module.graph.nodes):
        tensor = constant(graph_module, node)
        if tensor is not None:
            known[node] = tensor.detach()
        meta = tensor_meta(node)
        if not _is_foldable(node, known) or meta is None or static_shape(node) is None:
            continue
        args, kwargs = map_arg((node.args, node.kwargs), known.__getitem__)
        with torch.no_grad():
            value = node.target(*args, **kwargs)
        rewriter = Rewriter(graph_module, node)
        folded = rewriter.constant(value.clone(memory_format=torch.contiguous_format), "_folded")
        rewriter.replace_with(folded)
        known[folded] = value


def _is_foldable(node: Node, known: dict[Node, torch.Tensor]) -> bool:
    meta = tensor_meta(node)
    if node.op != "call_function" or meta is None or meta.numel() > _LARGEST:
        return False
    if not all(source in known for source in node.all_input_nodes):
        return False
    op = node.target
    if not isinstance(op, torch._ops.OpOverload) or op._schema.is_mutable:
        return False
    return torch.Tag.nondeterministic_seeded not in op.tags
