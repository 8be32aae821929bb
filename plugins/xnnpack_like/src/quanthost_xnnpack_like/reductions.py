"""Means and maxima over height and width, in the forms that the delegate has."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch

from quanthost.api import Rewriter, argument, rewrite_each, tensor_meta
from quanthost_xnnpack_like.shapes import inferable_shape, static_shape

if TYPE_CHECKING:
    from torch.fx import Node


__all__ = ["amax_to_values_of_max", "max_keeps_dimension", "mean_keeps_dimensions"]

_aten = torch.ops.aten


@rewrite_each("aten.mean.dim")
def mean_keeps_dimensions(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate averages height and width and keeps them; dropping them is a reshape."""
    source, dims = argument(node, "self"), argument(node, "dim")
    meta, shape = tensor_meta(source), inferable_shape(node)
    if meta is None or meta.dim() != 4 or shape is None or argument(node, "keepdim") or dims is None:
        return None
    if sorted(d % 4 for d in dims) != [2, 3]:
        return None
    mean = rewriter.call(_aten.mean.dim, source, [2, 3], True)
    return rewriter.call(_aten.reshape.default, mean, shape)


@rewrite_each("aten.amax.default")
def amax_to_values_of_max(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate has no ``amax``, but the values of ``max``."""
    dims = argument(node, "dim")
    return _values_of_max(rewriter, list(dims), argument(node, "keepdim")) if dims else None


@rewrite_each("aten.max.dim")
def max_keeps_dimension(rewriter: Rewriter, node: Node) -> Node | None:
    """Where only the values are read; the delegate does not count dimensions from the last."""
    dim, keeps = argument(node, "dim"), argument(node, "keepdim")
    readers = [reader for reader in node.users if reader.users]
    if (keeps and dim >= 0) or any(reader.args[1] != 0 for reader in readers):
        return None
    maximum = _values_of_max(rewriter, [dim], keeps)
    for reader in readers if maximum is not None else ():
        Rewriter(rewriter.graph_module, reader).replace_with(maximum)
    return None


def _values_of_max(rewriter: Rewriter, dims: list[int], keeps: bool) -> Node | None:
    """The maximum over height, width or both, one after the other; dropping them is a reshape."""
    result: Node = argument(rewriter.node, "self")
    shape = static_shape(result)
    if shape is None or len(shape) != 4 or not {dim % 4 for dim in dims} <= {2, 3}:
        return None
    for dim in {dim % 4 for dim in dims}:
        result = rewriter.call(operator.getitem, rewriter.call(_aten.max.dim, result, dim, True), 0)
    dropped = () if keeps else {dim % 4 for dim in dims}
    rest = [size for dim, size in enumerate(shape) if dim not in dropped]
    return result if keeps else rewriter.call(_aten.reshape.default, result, rest)
