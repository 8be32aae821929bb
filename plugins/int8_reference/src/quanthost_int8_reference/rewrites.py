"""Graph rewrites before annotation: what makes several tensors becomes operators that make one each."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch

from quanthost.api import Rewriter, argument, operator_name, tensor_meta

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

__all__ = ["REWRITES", "splits_to_slices"]

_SPLITS = ("aten.split.", "aten.split_with_sizes.", "aten.chunk.")


def splits_to_slices(graph_module: GraphModule) -> None:
    """Each part of a split that is read becomes a slice of its source."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and operator_name(node).startswith(_SPLITS):
            _slice_parts(graph_module, node)


def _slice_parts(graph_module: GraphModule, node: Node) -> None:
    source, parts = argument(node, "self"), node.meta.get("val")
    meta = tensor_meta(source)
    if meta is None or not isinstance(parts, (tuple, list)):
        return
    dim = argument(node, "dim") % meta.dim()
    if not all(isinstance(part.shape[dim], int) for part in parts):
        return
    ends = _ends(parts, dim)
    for reader in list(node.users):
        if reader.target is not operator.getitem:
            continue
        number = reader.args[1]
        rewriter = Rewriter(graph_module, reader)
        start = ends[number - 1] if number else 0
        made = rewriter.call(torch.ops.aten.slice.Tensor, source, dim, start, ends[number])
        rewriter.replace_with(made)


def _ends(parts: Any, dim: int) -> list[int]:
    ends: list[int] = []
    for part in parts:
        ends.append((ends[-1] if ends else 0) + int(part.shape[dim]))
    return ends


REWRITES = (splits_to_slices,)
