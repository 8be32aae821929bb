"""Decompositions of operators that read and write where indices point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["DECOMPOSITIONS"]

# of aten.embedding_bag: 0 is the sum
_MEAN, _MAX = 1, 2


def _embedding_bag(
    weight: Tensor, indices: Tensor, offsets: Tensor, scale_grad_by_freq: bool = False, mode: int = 0,
    sparse: bool = False, per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor] | Any:  # fmt: skip
    """A table of which index is in which bag, times the embeddings."""
    begins = offsets[:-1] if include_last_offset else offsets
    bags, length = begins.shape[0], indices.shape[0]
    if not bags or not length:
        return NotImplemented
    place = torch.arange(length)
    # the last bag that begins at the index or before it
    bag = (begins.unsqueeze(0) <= place.unsqueeze(1)).to(torch.int64).sum(1) - 1
    is_inside = bag.unsqueeze(0) == torch.arange(bags).unsqueeze(1)
    if padding_idx is not None and padding_idx >= 0:
        is_inside = is_inside & (indices != padding_idx).unsqueeze(0)
    rows = torch.nn.functional.embedding(indices, weight)
    size = is_inside.to(torch.int64).sum(1)
    if mode == _MAX:
        masked = torch.where(is_inside.unsqueeze(2), rows.unsqueeze(0), -torch.inf)
        result = torch.where((size > 0).unsqueeze(1), masked.amax(1), 0.0)
    else:
        share = is_inside.to(weight.dtype)
        if per_sample_weights is not None:
            share = share * per_sample_weights.unsqueeze(0)
        result = share @ rows
        if mode == _MEAN:
            result = result / size.clamp(min=1).to(weight.dtype).unsqueeze(1)
    return result, bag, size, size.clone()


def _scatter_reduce(
    x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    if x.dim() == 0 or not index.numel():
        return NotImplemented
    dim = dim % x.dim()
    src = src[tuple(slice(size) for size in index.shape)]
    if reduce in ("sum", "mean"):
        return _scatter_sum(x, dim, index, src, include_self=include_self, is_mean=reduce == "mean")
    if index.shape[:dim] + index.shape[dim + 1 :] != x.shape[:dim] + x.shape[dim + 1 :]:
        return NotImplemented
    places, sources = index.movedim(dim, 0), src.movedim(dim, 0)
    sizes = [x.shape[dim]] + [1] * x.dim()
    is_there = places.unsqueeze(0) == torch.arange(x.shape[dim]).reshape(sizes)
    before, neutral = x.movedim(dim, 0), _neutral(x.dtype, reduce)
    if neutral is None:
        return NotImplemented
    candidates = torch.where(is_there, sources.unsqueeze(0), neutral)
    if include_self:
        candidates = torch.cat([before.unsqueeze(1), candidates], 1)
    reduced: Tensor = {"amax": torch.amax, "amin": torch.amin, "prod": torch.prod}[reduce](candidates, 1)
    if not include_self:
        reduced = torch.where(is_there.any(1), reduced, before)
    return reduced.to(x.dtype).movedim(0, dim)


def _scatter_sum(
    x: Tensor, dim: int, index: Tensor, src: Tensor, *, include_self: bool, is_mean: bool
) -> Tensor:
    count = torch.zeros_like(x, dtype=torch.int64).scatter_add(dim, index, torch.ones_like(index))
    start = x if include_self else torch.where(count > 0, torch.zeros_like(x), x)
    total = start.scatter_add(dim, index, src)
    if not is_mean:
        return total
    divisor = (count + 1 if include_self else count).clamp(min=1)
    if x.dtype.is_floating_point:
        return total / divisor.to(x.dtype)
    return torch.div(total, divisor, rounding_mode="floor").to(x.dtype)


def _neutral(dtype: torch.dtype, reduce: str) -> float | int | None:
    if reduce == "prod":
        return 1
    if dtype is torch.bool:
        return None
    least: Any = (-torch.inf, torch.inf) if dtype.is_floating_point else (
        torch.iinfo(dtype).min, torch.iinfo(dtype).max
    )  # fmt: skip
    value: float | int = least[0] if reduce == "amax" else least[1]
    return value


def _index_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    if x.dim() == 0:
        whole = _index_reduce(x.reshape(1), 0, index, source.reshape(1), reduce, include_self=include_self)
        return whole if whole is NotImplemented else whole.reshape(())
    sizes = [1] * x.dim()
    sizes[dim] = index.numel()
    places = index.reshape(sizes).expand(source.shape)
    return _scatter_reduce(x, dim, places, source, reduce, include_self=include_self)


def _put(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    flat = x.reshape(-1)
    written = torch.index_put(flat, (index.reshape(-1),), source.reshape(-1), accumulate)
    return written.reshape(x.shape)


def _bilinear(one: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``y[k] = Σ one[i] weight[k, i, j] other[j]``, as a product of matrices and a sum."""
    results, first, second = weight.shape
    matrix = weight.permute(1, 0, 2).reshape(first, results * second)
    inner = (one.reshape(-1, first) @ matrix).reshape(-1, results, second)
    sums = (inner * other.reshape(-1, 1, second)).sum(-1).reshape(*one.shape[:-1], results)
    return sums if bias is None else sums + bias


def _diagonal_scatter(x: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    moved = x.movedim((dim1, dim2), (0, 1))
    place = torch.arange(src.shape[-1])
    rows, columns = place + max(0, -offset), place + max(0, offset)
    return torch.index_put(moved, (rows, columns), src.movedim(-1, 0)).movedim((0, 1), (dim1, dim2))


DECOMPOSITIONS: dict[str, Callable[..., Any]] = {
    "aten._embedding_bag.default": _embedding_bag,
    "aten._embedding_bag_forward_only.default": _embedding_bag, "aten.bilinear.default": _bilinear,
    "aten.embedding_bag.padding_idx": _embedding_bag,
    "aten.diagonal_scatter.default": _diagonal_scatter,
    "aten.index_reduce.default": _index_reduce,
    "aten.put.default": _put, "aten.scatter_reduce.two": _scatter_reduce,
}  # fmt: skip
"""By the name of the operator; a decomposition returns ``NotImplemented`` for calls that it does not take."""
