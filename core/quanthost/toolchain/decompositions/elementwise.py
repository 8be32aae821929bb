"""Decompositions of operators that compute element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["DECOMPOSITIONS"]

# erfc(x) = t exp(-x² + P(t)) with t = 1 / (1 + x / 2), x ≥ 0; relative error below 1.2e-7:
# W. H. Press et al., Numerical Recipes in C, 2nd edition, 1992, section 6.2
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
    -0.82215223, 0.17087277,
)  # fmt: skip


def _signbit(x: Tensor) -> Tensor:
    if not x.dtype.is_floating_point:
        return x < 0
    return (x < 0) | ((x == 0) & (torch.reciprocal(x) < 0))


def _real(x: Tensor) -> Tensor:
    return x if x.dtype.is_floating_point else x.to(torch.get_default_dtype())


def _copysign(x: Tensor, sign: Tensor | float) -> Tensor:
    x = _real(x)
    if not isinstance(sign, Tensor):
        return -x.abs() if math.copysign(1.0, sign) < 0 else x.abs()
    size, is_negative = x.abs(), _signbit(sign)
    return torch.where(is_negative, -size, size)


def _fmax(x: Tensor, y: Tensor) -> Tensor:
    larger = torch.maximum(x, y)
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, larger)) if _has_nan(x, y) else larger


def _fmin(x: Tensor, y: Tensor) -> Tensor:
    smaller = torch.minimum(x, y)
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, smaller)) if _has_nan(x, y) else smaller


def _has_nan(*tensors: Tensor) -> bool:
    return any(each.dtype.is_floating_point for each in tensors)


def _exp2(x: Tensor) -> Tensor:
    return torch.pow(2.0, x)


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    larger, smaller = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    # the quotient is at most 1, so that no square overflows
    quotient = torch.where(larger == 0, torch.zeros_like(larger), smaller / larger)
    return torch.where(larger.isinf(), larger, larger * torch.sqrt(1 + quotient * quotient))


def _logaddexp2(x: Tensor, y: Tensor) -> Tensor:
    larger, distance = torch.maximum(x, y), (x - y).abs()
    total = larger + torch.log1p(torch.pow(2.0, -distance)) / math.log(2)
    # the distance of two equal infinities is NaN
    return torch.where((x == y) & x.isinf(), x, total)


def _erfc(x: Tensor) -> Tensor:
    x = _real(x)
    size = x.abs()
    t = 1 / (1 + size / 2)
    polynomial = torch.full_like(t, _ERFC[-1])
    for coefficient in _ERFC[-2::-1]:
        polynomial = polynomial * t + coefficient
    tail = t * torch.exp(-size * size + polynomial)
    return torch.where(x < 0, 2 - tail, tail)


def _round_decimals(x: Tensor, *, decimals: int) -> Tensor:
    if not x.dtype.is_floating_point:
        return NotImplemented if decimals < 0 else x.clone()
    scale = 10.0 ** abs(decimals)
    return torch.round(x * scale) / scale if decimals >= 0 else torch.round(x / scale) * scale


def _angle(x: Tensor) -> Tensor:
    if x.dtype.is_complex:
        return NotImplemented
    real = _real(x)
    turned = torch.where(real < 0, torch.full_like(real, math.pi), torch.zeros_like(real))
    return torch.where(real.isnan(), real, turned)


def _aminmax(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    dims = [] if dim is None else [dim]
    return torch.amin(x, dims, keepdim), torch.amax(x, dims, keepdim)


def _remainder(x: Tensor | float, y: Tensor | float) -> Tensor:
    """The remainder with the sign of the divisor, from one that may have the sign of the dividend."""
    if not isinstance(x, Tensor):
        assert isinstance(y, Tensor)
        x = torch.full_like(y, x, dtype=torch.result_type(x, y))
    if torch.result_type(x, y).is_floating_point:
        return NotImplemented
    # torch.fmod has the dividend's sign, in the runtime and in torch
    return torch.fmod(torch.fmod(x, y) + y, y)


def _unfold(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    return x.reshape(1)[:size].clone() if x.dim() == 0 else NotImplemented


def _rrelu(
    x: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
    generator: Any = None,
) -> Any:  # fmt: skip
    return NotImplemented if training else (torch.nn.functional.leaky_relu(x, (lower + upper) / 2), noise)


def _zeros(size: Sequence[int], *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Tensor:
    """In place of memory as it is found."""
    return torch.zeros(size, dtype=dtype)


def _new_zeros(
    x: Tensor, size: Sequence[int], *_: Any, dtype: torch.dtype | None = None, **__: Any
) -> Tensor:
    return torch.zeros(size, dtype=dtype or x.dtype)


def _zeros_like(x: Tensor, *, dtype: torch.dtype | None = None, **__: Any) -> Tensor:
    return torch.zeros(x.shape, dtype=dtype or x.dtype)


DECOMPOSITIONS: dict[str, Callable[..., Any]] = {
    "aten.aminmax.default": _aminmax, "aten.angle.default": _angle, "aten.copysign.Scalar": _copysign,
    "aten.copysign.Tensor": _copysign, "aten.empty_like.default": _zeros_like,
    "aten.empty_permuted.default": _zeros, "aten.empty_strided.default": _zeros, "aten.erfc.default": _erfc,
    "aten.exp2.default": _exp2, "aten.fmax.default": _fmax, "aten.fmin.default": _fmin,
    "aten.hypot.default": _hypot, "aten.logaddexp2.default": _logaddexp2,
    "aten.new_empty_strided.default": _new_zeros, "aten.remainder.Scalar": _remainder,
    "aten.remainder.Scalar_Tensor": _remainder, "aten.remainder.Tensor": _remainder,
    "aten.round.decimals": _round_decimals, "aten.rrelu_with_noise_functional.default": _rrelu,
    "aten.signbit.default": _signbit, "aten.special_erfc.default": _erfc,
    "aten.special_exp2.default": _exp2, "aten.unfold.default": _unfold,
}  # fmt: skip
"""By the name of the operator; a decomposition returns ``NotImplemented`` for calls that it does not take."""
