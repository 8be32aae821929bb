"""Rewrites of operators that only change shapes or pick parts, and the shapes of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quanthost.api import Rewriter, argument, rewrite_each, slice_parts, tensor_meta

if TYPE_CHECKING:
    from torch.fx import Node


__all__ = [
    "drop_identities",
    "inferable_shape",
    "reshapes_to_view",
    "select_to_slice",
    "splits_to_slices",
    "static_shape",
]

_aten = torch.ops.aten
_IDENTITIES = (
    "aten.alias.",
    "aten.detach.",
    "aten.lift_fresh_copy.",
    "aten.dropout.",
    "aten.feature_dropout.",
)


def static_shape(node: Node) -> list[int] | None:
    """The shape of a node's tensor, ``None`` if a size is dynamic."""
    meta = tensor_meta(node)
    if meta is None or not all(isinstance(size, int) for size in meta.shape):
        return None
    return list(meta.shape)


def inferable_shape(node: Node) -> list[int] | None:
    """The shape with its one dynamic size, if any, as -1, which the delegate infers; else ``None``."""
    meta = tensor_meta(node)
    if meta is None:
        return None
    shape = [size if isinstance(size, int) else -1 for size in meta.shape]
    return shape if shape.count(-1) < 2 else None


@rewrite_each(*_IDENTITIES)
def drop_identities(rewriter: Rewriter, node: Node) -> Node | None:
    """Leave out operators that do nothing in evaluation."""
    if argument(node, "train", False):
        return None
    source: Node = node.args[0]
    return source


@rewrite_each(
    "aten.squeeze.", "aten.unsqueeze.", "aten.flatten.", "aten.unflatten.", "aten.view_as.",
    "aten.view.default", "aten.reshape.default",
)  # fmt: skip
def reshapes_to_view(rewriter: Rewriter, node: Node) -> Node | None:
    """Shape changes become one operator with plain numbers; the delegate runs them as a reshape."""
    shape = inferable_shape(node)
    if shape is None or argument(node, "size", argument(node, "shape")) == shape:
        return None
    return rewriter.call(_aten.reshape.default, node.args[0], shape)


@rewrite_each("aten.select.int")
def select_to_slice(rewriter: Rewriter, node: Node) -> Node | None:
    """Picking one index becomes a slice of length one and a reshape that drops the dimension."""
    shape = static_shape(node)
    source, dim, index = (argument(node, name) for name in ("self", "dim", "index"))
    whole = static_shape(source)
    if shape is None or whole is None or not isinstance(index, int):
        return None
    dim %= len(whole)
    size = whole[dim]
    index %= size
    part = rewriter.call(_aten.slice.Tensor, source, dim, index, index + 1)
    return rewriter.call(_aten.reshape.default, part, shape)


@rewrite_each("aten.split.", "aten.split_with_sizes.", "aten.chunk.", "aten.unbind.")
def splits_to_slices(rewriter: Rewriter, node: Node) -> Node | None:
    """Each part of a split becomes a slice; ``unbind`` drops the dimension as well."""
    if static_shape(argument(node, "self")) is not None:
        slice_parts(rewriter, node)
    return None
