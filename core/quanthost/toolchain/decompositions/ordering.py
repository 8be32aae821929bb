"""Decompositions of operators that order, rank or accumulate along a dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["DECOMPOSITIONS"]

# elements of the table of comparisons with which equal values keep their order; larger ones go to topk
_MOST_COMPARED = 1 << 22


def _sort(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    return _sort_stable(x, stable=False, dim=dim, descending=descending)


def _sort_stable(
    x: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor] | Any:
    """By ranks where the table of comparisons is small, else by ``topk``, which may swap equal values."""
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    length = x.shape[dim]
    if x.numel() * length <= _MOST_COMPARED:
        return _sort_by_rank(x, dim, descending=descending)
    if stable:
        return NotImplemented
    values, indices = torch.topk(_countable(x), length, dim, largest=descending, sorted=True)
    return values.to(x.dtype), indices


def _countable(x: Tensor) -> Tensor:
    """Integers for bools, which few kernels order."""
    return x.to(torch.int64) if x.dtype is torch.bool else x


def _sort_by_rank(x: Tensor, dim: int, *, descending: bool) -> tuple[Tensor, Tensor]:
    last = _countable(x).movedim(dim, -1)
    length = last.shape[-1]
    place = torch.arange(length)
    one, other = last.unsqueeze(-1), last.unsqueeze(-2)
    is_less = _less(one, other) if descending else _less(other, one)
    is_earlier = place.unsqueeze(0) < place.unsqueeze(1)
    comes_first = is_less | (_equal(one, other) & is_earlier)
    rank = comes_first.to(torch.int64).sum(-1)
    indices = torch.zeros_like(rank).scatter(-1, rank, place.expand(rank.shape))
    values = torch.gather(last, -1, indices)
    return values.movedim(-1, dim).to(x.dtype), indices.movedim(-1, dim)


def _less(x: Tensor, y: Tensor) -> Tensor:
    """``x < y`` where NaN is greater than any number, as torch sorts."""
    return (x < y) | (y.isnan() & x.isnan().logical_not()) if x.dtype.is_floating_point else x < y


def _equal(x: Tensor, y: Tensor) -> Tensor:
    return (x == y) | (x.isnan() & y.isnan()) if x.dtype.is_floating_point else x == y


def _pick(x: Tensor, place: Tensor | int, dim: int, keepdim: bool) -> tuple[Tensor, Tensor] | Any:
    """The element of this rank along a dimension, and its index."""
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    ordered = _sort(x, dim)
    if ordered is NotImplemented:
        return NotImplemented
    values, indices = ordered
    if isinstance(place, int):
        values, indices = values.narrow(dim, place, 1), indices.narrow(dim, place, 1)
    else:
        values, indices = torch.gather(values, dim, place), torch.gather(indices, dim, place)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def _kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return _pick(x, k - 1, dim, keepdim)


def _median_dim(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of two medians; NaN, which is sorted last, where there is one."""
    if x.dim() == 0 or not x.dtype.is_floating_point:
        return _pick(x, (x.shape[dim] - 1) // 2 if x.dim() else 0, dim, keepdim)
    length = x.shape[dim]
    has_nan = x.isnan().any(dim, keepdim=True)
    place = torch.where(has_nan, length - 1, (length - 1) // 2)
    return _pick(x, place, dim, keepdim)


def _nanmedian_dim(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    if x.dim() == 0 or not x.dtype.is_floating_point:
        return _median_dim(x, dim, keepdim)
    numbers = x.isnan().logical_not().to(torch.int64).sum(dim, keepdim=True)
    place = torch.clamp(torch.div(numbers - 1, 2, rounding_mode="floor"), min=0)
    return _pick(x, place, dim, keepdim)


def _median(x: Tensor) -> Tensor:
    return _median_dim(x.reshape(-1), 0)[0]


def _nanmedian(x: Tensor) -> Tensor:
    return _nanmedian_dim(x.reshape(-1), 0)[0]


def _mode(x: Tensor, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor] | Any:
    """The most frequent value, the smallest of several, and the last place where it is."""
    if x.dim() == 0 or x.dtype.is_floating_point:
        return NotImplemented if x.dim() else (x.clone(), torch.zeros_like(x, dtype=torch.int64))
    last = x.to(torch.int64).movedim(dim, -1)
    if x.numel() * last.shape[-1] > _MOST_COMPARED:
        return NotImplemented
    frequency = (last.unsqueeze(-1) == last.unsqueeze(-2)).to(torch.int64).sum(-1)
    is_most = frequency == frequency.amax(-1, keepdim=True)
    value = torch.where(is_most, last, torch.iinfo(torch.int64).max).amin(-1, keepdim=True)
    place = torch.where(last == value, torch.arange(last.shape[-1]), -1).amax(-1, keepdim=True)
    value, place = value.movedim(-1, dim).to(x.dtype), place.movedim(-1, dim)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


def _scan(
    parts: tuple[Tensor, ...], dim: int, combine: Callable[..., tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Accumulate along a dimension, in as many steps as the length has bits.

    W. D. Hillis and G. L. Steele, Data parallel algorithms, CACM 29 (1986). ``combine`` takes the parts of
    an earlier and of a later element, and is associative.
    """
    length, step = parts[0].shape[dim], 1
    while step < length:
        earlier = tuple(part.narrow(dim, 0, length - step) for part in parts)
        later = tuple(part.narrow(dim, step, length - step) for part in parts)
        combined = combine(earlier, later)
        parts = tuple(torch.cat([p.narrow(dim, 0, step), c], dim) for p, c in zip(parts, combined))
        step *= 2
    return parts


def _cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    x = _summed(x, dtype)
    return x if x.dim() == 0 else _scan((x,), dim, lambda earlier, later: (earlier[0] * later[0],))[0]


def _cumsum(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    return NotImplemented if x.dim() > 0 else _summed(x, dtype)


def _summed(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor in the dtype in which torch sums it."""
    total = dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)
    return x.to(total) if total != x.dtype else x.clone()


def _sum(x: Tensor, dim: Any, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    return NotImplemented if x.dim() > 0 else _summed(x, dtype)


def _logcumsumexp(x: Tensor, dim: int) -> Tensor:
    def combine(earlier: tuple[Tensor, ...], later: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (a,), (b,) = earlier, later
        total = torch.maximum(a, b) + torch.log1p(torch.exp(-(a - b).abs()))
        # the distance of two equal infinities is NaN
        return (torch.where((a == b) & a.isinf(), a, total),)

    return x.clone() if x.dim() == 0 else _scan((x,), dim, combine)[0]


def _cummax(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    return _extreme_so_far(x, dim, torch.ge)


def _cummin(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    return _extreme_so_far(x, dim, torch.le)


def _extreme_so_far(
    x: Tensor, dim: int, is_better: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The last of equal values counts, and NaN is beyond any number."""
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)

    def combine(earlier: tuple[Tensor, ...], later: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        takes_later = is_better(later[0], earlier[0])
        if x.dtype.is_floating_point:
            takes_later = takes_later | later[0].isnan()
        return tuple(torch.where(takes_later, b, a) for a, b in zip(earlier, later))

    values = _countable(x)
    sizes = [1] * x.dim()
    sizes[dim] = x.shape[dim]
    places = torch.arange(x.shape[dim]).reshape(sizes).expand(x.shape)
    values, indices = _scan((values, places), dim, combine)
    return values.to(x.dtype), indices


def _searchsorted(
    sequence: Tensor, values: Tensor | float, *, out_int32: bool = False, right: bool = False,
    side: str | None = None, sorter: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Count the boundaries in front of each value, NaN being behind all of them."""
    if sorter is not None:
        sequence = torch.gather(sequence, -1, sorter)
    if not isinstance(values, Tensor):
        values = torch.full((), values, dtype=sequence.dtype)
    boundaries = sequence if sequence.dim() == 1 else sequence.unsqueeze(-2)
    asked = values.unsqueeze(-1)
    is_behind = boundaries > asked if right or side == "right" else boundaries >= asked
    count = is_behind.logical_not().to(torch.int64).sum(-1)
    return count.to(torch.int32) if out_int32 else count


def _bucketize(
    values: Tensor | float, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    return _searchsorted(boundaries, values, out_int32=out_int32, right=right)


DECOMPOSITIONS: dict[str, Callable[..., Any]] = {
    "aten.bucketize.Scalar": _bucketize, "aten.bucketize.Tensor": _bucketize,
    "aten.cummax.default": _cummax, "aten.cummin.default": _cummin, "aten.cumprod.default": _cumprod,
    "aten.cumsum.default": _cumsum, "aten.kthvalue.default": _kthvalue,
    "aten.logcumsumexp.default": _logcumsumexp, "aten.median.default": _median,
    "aten.median.dim": _median_dim, "aten.mode.default": _mode, "aten.nanmedian.default": _nanmedian,
    "aten.nanmedian.dim": _nanmedian_dim, "aten.searchsorted.Scalar": _searchsorted,
    "aten.searchsorted.Tensor": _searchsorted, "aten.sort.default": _sort, "aten.sort.stable": _sort_stable,
    "aten.sum.dim_IntList": _sum,
}  # fmt: skip
"""By the name of the operator; a decomposition returns ``NotImplemented`` for calls that it does not take."""
