"""Activation functions, in the forms that the delegate has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quanthost.api import Rewriter, argument, constant, rewrite_each
from quanthost_xnnpack_like.scalars import scalar_constant
from quanthost_xnnpack_like.shapes import static_shape

if TYPE_CHECKING:
    from torch.fx import Node


__all__ = [
    "clamp_to_hardtanh",
    "elu_with_alpha",
    "hardsigmoid_to_products",
    "prelu_to_four_dimensions",
    "silu_to_product",
]

_aten = torch.ops.aten


@rewrite_each("aten.silu.default")
def silu_to_product(rewriter: Rewriter, node: Node) -> Node | None:
    """x · sigmoid(x)."""
    gate = rewriter.call(_aten.sigmoid.default, node.args[0])
    return rewriter.call(_aten.mul.Tensor, node.args[0], gate)


@rewrite_each("aten.hardsigmoid.default")
def hardsigmoid_to_products(rewriter: Rewriter, node: Node) -> Node | None:
    """min(max(x + 3, 0), 6) / 6: the delegate has kernels for the parts only."""
    three, sixth = scalar_constant(rewriter, 3.0), scalar_constant(rewriter, 1 / 6)
    if three is None or sixth is None:
        return None
    shifted = rewriter.call(_aten.add.Tensor, node.args[0], three)
    return rewriter.call(_aten.mul.Tensor, rewriter.call(_aten.hardtanh.default, shifted, 0.0, 6.0), sixth)


@rewrite_each("aten.elu.")
def elu_with_alpha(rewriter: Rewriter, node: Node) -> Node | None:
    """Write alpha out: the delegate's compiler does not know its default."""
    if len(node.args) > 1 or "alpha" in node.kwargs:
        return None
    more = {key: value for key, value in node.kwargs.items() if key != "self"}
    return rewriter.call(_aten.elu.default, argument(node, "self"), 1.0, **more)


@rewrite_each("aten.clamp.default")
def clamp_to_hardtanh(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate fuses a hardtanh, but not a clamp, into the kernel before it."""
    low, high = argument(node, "min"), argument(node, "max")
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return None
    return rewriter.call(_aten.hardtanh.default, node.args[0], float(low), float(high))


@rewrite_each("aten.prelu.default")
def prelu_to_four_dimensions(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate's PReLU is 4-d, channels second, with a slope for each channel."""
    source, slope = argument(node, "self"), constant(rewriter.graph_module, argument(node, "weight"))
    shape = static_shape(source)
    if slope is None or shape is None or not 2 <= len(shape) <= 4:
        return None
    if len(shape) == 4 and slope.numel() == shape[1]:
        return None
    slopes = rewriter.constant(slope.detach().expand(shape[1]).clone(), "_slope")
    lifted = rewriter.call(_aten.reshape.default, source, [*shape, *([1] * (4 - len(shape)))])
    result = rewriter.call(_aten.prelu.default, lifted, slopes)
    return result if len(shape) == 4 else rewriter.call(_aten.reshape.default, result, shape)
