"""Turns the number in arithmetic operators into a constant tensor with its own range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quanthost.api import Rewriter, argument, rewrite_each, tensor_meta

if TYPE_CHECKING:
    from torch.fx import Node


__all__ = ["reversed_difference_to_difference", "scalar_constant", "scalars_to_tensors"]

_aten = torch.ops.aten


@rewrite_each("aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.div.Tensor")
def scalars_to_tensors(rewriter: Rewriter, node: Node) -> Node | None:
    """A number as operand becomes a constant tensor, which has a range and can be integer."""
    first, second = argument(node, "self"), argument(node, "other")
    if argument(node, "alpha", 1) != 1 or isinstance(second, bool) or not isinstance(second, (int, float)):
        return None
    scalar = scalar_constant(rewriter, second)
    return None if scalar is None else rewriter.call(node.target, first, scalar)


@rewrite_each("aten.rsub.Scalar")
def reversed_difference_to_difference(rewriter: Rewriter, node: Node) -> Node | None:
    """A number minus a tensor: the same with the number as a constant tensor."""
    number = argument(node, "other")
    if argument(node, "alpha", 1) != 1 or not isinstance(number, (int, float)):
        return None
    scalar = scalar_constant(rewriter, number)
    return None if scalar is None else rewriter.call(_aten.sub.Tensor, scalar, argument(node, "self"))


def scalar_constant(rewriter: Rewriter, number: float) -> Node | None:
    """A constant for a float32 result, of the result's rank."""
    meta = tensor_meta(rewriter.node)
    if meta is None or meta.dtype != torch.float32:
        return None
    # of lower rank, the delegate would hold both operands contiguous, and transpose between convolutions
    return rewriter.constant(torch.full([1] * max(meta.dim(), 1), float(number)), "_scalar")
