"""Layer norm as products, and batch norm as a convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quanthost.api import Rewriter, argument, constant, rewrite_each, tensor_meta
from quanthost_xnnpack_like.shapes import static_shape

if TYPE_CHECKING:
    from torch.fx import Node


__all__ = ["batch_norm_to_convolution", "layer_norm_to_products"]

_aten = torch.ops.aten


@rewrite_each("aten.layer_norm.default")
def layer_norm_to_products(rewriter: Rewriter, node: Node) -> Node | None:
    """Mean and variance as products with a column of 1/C: the delegate has no reduction over the last axis.

    y = (x - E[x]) / sqrt(E[(x - E[x])²] + eps) · weight + bias
    """
    source, normalized = argument(node, "input"), argument(node, "normalized_shape")
    shape, meta = static_shape(source), tensor_meta(node)
    if shape is None or len(normalized) != 1 or meta is None or meta.dtype != torch.float32:
        return None
    channels = int(normalized[0])
    column = rewriter.constant(torch.full((channels, 1), 1.0 / channels), "_mean_column")
    flat = rewriter.call(_aten.reshape.default, source, [-1, channels])
    mean = rewriter.call(_aten.mm.default, flat, column)
    centred = rewriter.call(_aten.sub.Tensor, flat, mean)
    squares = rewriter.call(_aten.mul.Tensor, centred, centred)
    variance = rewriter.call(_aten.mm.default, squares, column)
    shifted = rewriter.call(
        _aten.add.Tensor, variance, rewriter.constant(torch.tensor([float(argument(node, "eps"))]), "_eps")
    )
    result = rewriter.call(_aten.mul.Tensor, centred, rewriter.call(_aten.rsqrt.default, shifted))
    for part, target in (
        (argument(node, "weight"), _aten.mul.Tensor),
        (argument(node, "bias"), _aten.add.Tensor),
    ):
        if part is not None:
            result = rewriter.call(target, result, part)
    return rewriter.call(_aten.reshape.default, result, shape)


@rewrite_each("aten.batch_norm.default")
def batch_norm_to_convolution(rewriter: Rewriter, node: Node) -> Node | None:
    """A batch norm that is not folded becomes a 1×1 depthwise convolution: it scales and shifts channels."""
    if argument(node, "training"):
        return None
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, variance = (constant(rewriter.graph_module, argument(node, name)) for name in names)
    meta = tensor_meta(node)
    if mean is None or variance is None or meta is None or meta.dim() not in (2, 3, 4):
        return None
    scale = torch.rsqrt(variance.detach() + argument(node, "eps"))
    scale = scale if weight is None else scale * weight.detach()
    shift = -mean.detach() * scale
    shift = shift if bias is None else shift + bias.detach()
    rows = meta.dim() == 2
    channels, spatial = scale.numel(), 1 if meta.dim() == 3 else 2
    source = argument(node, "input")
    if rows:
        source = rewriter.call(_aten.reshape.default, source, [-1, channels, 1, 1])
    kernel = rewriter.constant(scale.reshape(channels, 1, *([1] * spatial)), "_norm_scale")
    offset = rewriter.constant(shift, "_norm_shift")
    convolution = _aten.conv2d.default if spatial == 2 else _aten.conv1d.default
    ones, zeros = [1] * spatial, [0] * spatial
    result = rewriter.call(convolution, source, kernel, offset, ones, zeros, ones, channels)
    return rewriter.call(_aten.reshape.default, result, [-1, channels]) if rows else result
