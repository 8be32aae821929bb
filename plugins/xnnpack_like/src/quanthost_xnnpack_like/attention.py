"""Attention as batched products, since the delegate has no kernel for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quanthost.api import Rewriter, argument, constant, rewrite_each, tensor_meta
from quanthost_xnnpack_like.shapes import static_shape

if TYPE_CHECKING:
    from torch.fx import Node


__all__ = ["attention_to_products"]

_aten = torch.ops.aten
# far below any score, but small enough to keep the range usable
_MASKED = -1e9


@rewrite_each("aten.scaled_dot_product_attention.default")
def attention_to_products(rewriter: Rewriter, node: Node) -> Node | None:
    """softmax(query · keyᵀ · scale + mask) · value, as batched products of 3-d tensors."""
    query, key, value = (argument(node, name) for name in ("query", "key", "value"))
    shapes = [static_shape(part) for part in (query, key, value)]
    shape, meta = static_shape(node), tensor_meta(node)
    if shape is None or meta is None or meta.dtype != torch.float32 or None in shapes:
        return None
    queries, keys, values = (list(part or ()) for part in shapes)
    plain = queries[:-2] == keys[:-2] == values[:-2] and not argument(node, "enable_gqa", False)
    if not plain or argument(node, "dropout_p"):
        return None
    mask = _additive_mask(rewriter, node, queries[-2], keys[-2])
    own_scale = argument(node, "scale")
    scale = float(own_scale) if own_scale is not None else queries[-1] ** -0.5
    flat_query = rewriter.call(_aten.reshape.default, query, [-1, *queries[-2:]])
    flat_key = rewriter.call(_aten.reshape.default, key, [-1, *keys[-2:]])
    flat_value = rewriter.call(_aten.reshape.default, value, [-1, *values[-2:]])
    factor = rewriter.constant(torch.tensor([scale]), "_attention_scale")
    scaled = rewriter.call(_aten.mul.Tensor, flat_query, factor)
    scores = rewriter.call(
        _aten.bmm.default, scaled, rewriter.call(_aten.permute.default, flat_key, [0, 2, 1])
    )
    if mask is not None:
        whole = [*queries[:-1], keys[-2]]
        masked = rewriter.call(_aten.add.Tensor, rewriter.call(_aten.reshape.default, scores, whole), mask)
        scores = rewriter.call(_aten.reshape.default, masked, [-1, *whole[-2:]])
    weights = rewriter.call(_aten.softmax.int, scores, -1)
    result = rewriter.call(_aten.bmm.default, weights, flat_value)
    return rewriter.call(_aten.reshape.default, result, shape)


def _additive_mask(rewriter: Rewriter, node: Node, queries: int, keys: int) -> Node | None:
    """The mask to add to the scores; ``None`` if nothing is masked."""
    mask = argument(node, "attn_mask")
    if argument(node, "is_causal"):
        visible = torch.ones(queries, keys, dtype=torch.bool).tril()
        return rewriter.constant(torch.zeros(queries, keys).masked_fill(~visible, _MASKED), "_causal_mask")
    if mask is None:
        return None
    value, meta = constant(rewriter.graph_module, mask), tensor_meta(mask)
    is_bool = meta is not None and meta.dtype == torch.bool
    if value is not None and is_bool:
        if bool(value.all()):
            return None
        return rewriter.constant(torch.zeros(value.shape).masked_fill(~value, _MASKED), "_attention_mask")
    if value is not None:
        return rewriter.constant(value.detach().clamp(min=_MASKED), "_attention_mask")
    if not is_bool or meta is None:
        return rewriter.call(_aten.clamp.default, mask, _MASKED)
    zero = rewriter.constant(torch.zeros(()), "_unmasked")
    zeros = rewriter.call(_aten.expand.default, zero, list(meta.shape))
    hidden = rewriter.call(_aten.logical_not.default, mask)
    return rewriter.call(_aten.masked_fill.Scalar, zeros, hidden, _MASKED)
