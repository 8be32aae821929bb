"""Products with a constant matrix, which become linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quanthost.api import Rewriter, argument, constant, rewrite_each

if TYPE_CHECKING:
    from torch.fx import Node


__all__ = ["addmm_to_linear", "mm_to_linear"]

_aten = torch.ops.aten


@rewrite_each("aten.addmm.default")
def addmm_to_linear(rewriter: Rewriter, node: Node) -> Node | None:
    """A product with a constant matrix is a linear layer with the transposed weight."""
    bias, source, matrix = (argument(node, name) for name in ("self", "mat1", "mat2"))
    weight = constant(rewriter.graph_module, matrix)
    if weight is None or constant(rewriter.graph_module, bias) is None:
        return None
    if argument(node, "alpha", 1) != 1 or argument(node, "beta", 1) != 1:
        return None
    transposed = rewriter.constant(weight.detach().t().contiguous(), "_linear_weight")
    return rewriter.call(_aten.linear.default, source, transposed, bias)


@rewrite_each("aten.mm.default", "aten.matmul.default")
def mm_to_linear(rewriter: Rewriter, node: Node) -> Node | None:
    """The same without a bias, also for a batch of matrices."""
    source = node.args[0]
    matrix: Node = node.args[1]
    weight = constant(rewriter.graph_module, matrix)
    if weight is None or weight.dim() != 2:
        return None
    transposed = rewriter.constant(weight.detach().t().contiguous(), "_linear_weight")
    return rewriter.call(_aten.linear.default, source, transposed, None)
