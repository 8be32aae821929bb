"""Affine quantization in plain torch: parameters from a range, quantize, dequantize, and the error in dB."""

from __future__ import annotations

import math
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from quanthost.arith.dtypes import torch_dtype
from quanthost.errors import ValueCheckError
from quanthost.values import DType, QSpec, Symmetry, checks

__all__ = [
    "SMALLEST_SCALE",
    "QParams",
    "dequantize",
    "fake_quantize",
    "qparams_from_range",
    "quantize",
    "sqnr_db",
]

SMALLEST_SCALE = 2.0**-23
"""The least scale that ``qparams_from_range`` returns: the default ``eps`` of torchao's observers.

It is a normal float32 with a finite reciprocal, and large enough that a bias of scale
``input_scale × weight_scale`` still fits in int32 if all weights of a channel are close to zero.
"""

_LARGEST_SCALE = torch.finfo(torch.float32).max
_SMALLEST_NORMAL = torch.finfo(torch.float32).tiny

_Bound: TypeAlias = Tensor | float


@attrs.frozen(kw_only=True, eq=False)
class QParams:
    """The scale and zero point of a tensor, with their layout: ``x ≈ (q - zero_point) × scale``.

    ``scale`` (float32 or float64) and ``zero_point`` (int32 or int64) have the same shape:

    - one element if ``axis`` and ``group_size`` are ``None`` (per tensor);
    - ``[C]`` if ``axis`` is set: element ``c`` applies to index ``c`` of that axis (per channel);
    - ``[R, C / group_size]`` if ``group_size`` is set too: element ``[r, g]`` applies to row ``r``,
      columns ``g × group_size`` up to the next group, of a tensor ``[R, C]`` (per group).
    """

    scale: Tensor
    zero_point: Tensor
    quant_min: int = attrs.field(validator=checks.kind(int))
    quant_max: int = attrs.field(validator=checks.kind(int))
    dtype: DType = attrs.field(validator=checks.kind(DType))
    axis: int | None = attrs.field(default=None, validator=checks.kind(int, optional=True))
    group_size: int | None = attrs.field(default=None, validator=checks.kind(int, optional=True))

    @classmethod
    def for_spec(cls, spec: QSpec, scale: Tensor, zero_point: Tensor) -> QParams:
        """The parameters with the range, dtype, axis and group size of a spec."""
        return cls(
            scale=scale, zero_point=zero_point, quant_min=spec.quant_min, quant_max=spec.quant_max,
            dtype=spec.dtype, axis=spec.axis, group_size=spec.group_size,
        )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        self._check_shapes()
        if self.scale.dtype not in (torch.float32, torch.float64) or not _all_normal(self.scale):
            checks.refuse(
                self, "scale", f"a scale of {self.scale.dtype} from {_extremes(self.scale)}",
                needed="float32 or float64, every element a normal positive float32",
                remedy="take scales from qparams_from_range", value=self.scale,
            )  # fmt: skip
        if not self.dtype.minimum <= self.quant_min < self.quant_max <= self.dtype.maximum:
            checks.refuse(
                self, "quant_min", f"the range {self.quant_min} to {self.quant_max} for {self.dtype.value}",
                needed=f"quant_min < quant_max inside {self.dtype.minimum} to {self.dtype.maximum}",
                remedy="correct the range or choose a wider dtype", value=(self.quant_min, self.quant_max),
            )  # fmt: skip
        integral = self.zero_point.dtype in (torch.int32, torch.int64)
        inside = integral and bool(
            ((self.zero_point >= self.quant_min) & (self.zero_point <= self.quant_max)).all()
        )
        if not inside:
            checks.refuse(
                self, "zero_point",
                f"a zero point of {self.zero_point.dtype} from {_extremes(self.zero_point)}",
                needed=f"int32 or int64, every element from {self.quant_min} to {self.quant_max}",
                remedy="take zero points from qparams_from_range", value=self.zero_point,
            )  # fmt: skip

    def _check_shapes(self) -> None:
        shape = tuple(self.scale.shape)
        if self.axis is None:
            fits = self.group_size is None and self.scale.numel() == 1
            needed = "one element without an axis, and no group size"
        else:
            fits = self.scale.ndim == (1 if self.group_size is None else 2) and self.scale.numel() > 0
            needed = "one dimension per channel, two per group"
        if fits and tuple(self.zero_point.shape) == shape:
            return
        checks.refuse(
            self, "scale", f"shape {shape} with a zero point of shape {tuple(self.zero_point.shape)}, "
            f"axis={self.axis}, group_size={self.group_size}",
            needed=f"equal shapes, {needed}", remedy="reshape both, or correct axis and group_size",
            value=shape,
        )  # fmt: skip


def _all_normal(scale: Tensor) -> bool:
    rounded = scale.to(torch.float32)
    return bool(((rounded >= _SMALLEST_NORMAL) & (rounded <= _LARGEST_SCALE)).all())


def _extremes(tensor: Tensor) -> str:
    return f"{tensor.min().item()} to {tensor.max().item()}"


def qparams_from_range(
    minimum: _Bound, maximum: _Bound, spec: QSpec, *, smallest_scale: float = SMALLEST_SCALE
) -> tuple[Tensor, Tensor]:
    """The scale (float32) and zero point (int64) that cover a range; both have the shape of the bounds.

    The bounds broadcast against each other: ``[]`` per tensor, ``[C]`` per channel, ``[R, G]`` per
    group. The range is first widened to contain 0, so that an integer represents 0 exactly. A range that is
    only 0 counts as ``[0, 1]``: any scale represents it, and one close to those of other tensors keeps the
    ratios of scales within what integer kernels accept. With ``low <= 0 <= high``:

    - affine: ``scale = (high - low) / (quant_max - quant_min)`` and
      ``zero_point = clamp(quant_min - round(low / scale))``, ties to even;
    - symmetric: ``scale = max(-low, high) / ((quant_max - quant_min) / 2)``; the zero point is 0 for
      signed types, the middle of the range (upper of the two) for unsigned ones. With -127..127 the
      largest value maps to 127; with -128..127 it maps to 127.5 steps and saturates by half a step.

    Computed in float64; the scale is bounded below by ``smallest_scale`` and rounded once to float32, and the
    rounded scale gives the zero point.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 3; conventions for symmetric ranges and ``smallest_scale``
    as in ``_calculate_qparams`` of torchao's PT2E observers.
    """
    low, high = torch.broadcast_tensors(_bound(minimum), _bound(maximum))
    _check_bounds(low, high)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    high = torch.where((low == 0.0) & (high == 0.0), 1.0, high)
    steps = spec.quant_max - spec.quant_min
    if spec.symmetry is Symmetry.SYMMETRIC:
        scale = _round_scale(torch.maximum(-low, high) / (steps / 2), smallest_scale)
        return scale, torch.full(scale.shape, _middle(spec), dtype=torch.int64)
    scale = _round_scale((high - low) / steps, smallest_scale)
    zero_point = spec.quant_min - torch.round(low / scale.to(torch.float64))
    return scale, zero_point.clamp(spec.quant_min, spec.quant_max).to(torch.int64)


def _bound(value: _Bound) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).detach()


def _check_bounds(low: Tensor, high: Tensor) -> None:
    if bool((torch.isfinite(low) & torch.isfinite(high) & (low <= high)).all()):
        return
    wrong = ~(torch.isfinite(low) & torch.isfinite(high) & (low <= high))
    first = f"{low[wrong][0].item()} to {high[wrong][0].item()}"
    raise ValueCheckError(
        f"the range {first} ({int(wrong.sum())} of {wrong.numel()} ranges are unusable)",
        needed="finite bounds with minimum <= maximum", where="qparams_from_range",
        remedy="calibrate with data that reaches this tensor and is finite", value=(low, high),
    )  # fmt: skip


def _round_scale(scale: Tensor, smallest: float) -> Tensor:
    return scale.clamp(smallest, _LARGEST_SCALE).to(torch.float32)


def _middle(spec: QSpec) -> int:
    if spec.dtype is DType.UINT8:
        return (spec.quant_min + spec.quant_max + 1) // 2
    return min(max(0, spec.quant_min), spec.quant_max)


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """The integers of ``x`` (any float dtype): ``clamp(round(x × (1 / scale)) + zero_point)``.

    The result has the shape of ``x`` and the storage dtype (int8 for int4). The arithmetic is float32, the
    reciprocal is rounded before the product, and ties go to even. The bits equal those of
    ``quantized_decomposed.quantize_per_tensor`` and ``quantize_per_channel``, except that int32 saturates at
    its bounds instead of wrapping. Infinities saturate, NaN becomes the zero point.
    """
    values, scale, zero_point = _align(x.detach(), qparams)
    steps = values.to(torch.float32) * (1.0 / scale).to(torch.float32)
    steps = steps.round_().nan_to_num_(nan=0.0)
    if qparams.dtype is DType.INT32:
        # 2**31 - 1 is not a float32 number, so the clamp would let 2**31 through
        steps = steps.to(torch.float64)
    integers = steps.add_(zero_point).clamp_(qparams.quant_min, qparams.quant_max)
    return integers.to(torch_dtype(qparams.dtype)).reshape(x.shape)


def dequantize(q: Tensor, qparams: QParams) -> Tensor:
    """The float32 values of integers, same shape: ``(q - zero_point) × scale``, each step in float32."""
    values, scale, zero_point = _align(q, qparams)
    return ((values.to(torch.float32) - zero_point) * scale.to(torch.float32)).reshape(q.shape)


def fake_quantize(x: Tensor, qparams: QParams) -> Tensor:
    """``dequantize(quantize(x))`` in the shape and dtype of ``x``, without gradient."""
    return dequantize(quantize(x, qparams), qparams).to(x.dtype)


def _align(x: Tensor, qparams: QParams) -> tuple[Tensor, Tensor, Tensor]:
    """Reshape ``x``, scale and zero point to broadcast; per group ``x`` becomes ``[R, G, size]``."""
    scale, zero_point = qparams.scale, qparams.zero_point
    if qparams.axis is None:
        return x, scale.reshape(()), zero_point.reshape(())
    _check_layout(x, qparams)
    if qparams.group_size is not None:
        return x.unflatten(-1, (-1, qparams.group_size)), scale.unsqueeze(-1), zero_point.unsqueeze(-1)
    shape = [1] * x.ndim
    shape[qparams.axis] = -1
    return x, scale.view(shape), zero_point.view(shape)


def _check_layout(x: Tensor, qparams: QParams) -> None:
    scales, size, axis = tuple(qparams.scale.shape), qparams.group_size, qparams.axis
    assert axis is not None
    if size is not None:
        fits = x.ndim == 2 and tuple(x.shape) == (scales[0], scales[1] * size)
        needed = f"[{scales[0]}, {scales[1] * size}]: {scales[0]} rows of {scales[1]} groups of {size}"
    else:
        fits = 0 <= axis < x.ndim and x.shape[axis] == scales[0]
        needed = f"{scales[0]} elements along axis {axis}"
    if fits:
        return
    raise ValueCheckError(
        f"a tensor of shape {list(x.shape)}", needed=needed, where="QParams",
        remedy="use the parameters with the tensor they belong to, or correct the axis", value=x,
    )  # fmt: skip


def sqnr_db(reference: Tensor, approximation: Tensor) -> float:
    """The signal to quantization noise ratio in dB: ``10 × log10(Σ r² / Σ (r - a)²)``, summed in float64.

    Both have the same shape, and any dtype. Elements that are NaN in both or the same infinity in both are
    ignored. The result is ``inf`` if all elements are equal (also for empty or zero tensors), and ``-inf``
    if there is noise but no signal, or if an element is not finite on one side only.
    """
    if reference.shape != approximation.shape:
        raise ValueCheckError(
            f"shapes {list(reference.shape)} and {list(approximation.shape)}", needed="one shape",
            where="sqnr_db", remedy="compare outputs of the same signature",
        )  # fmt: skip
    exact = reference.detach().to(torch.float64)
    other = approximation.detach().to(torch.float64)
    if not bool(torch.isfinite(exact).all() & torch.isfinite(other).all()):
        same = (exact == other) | (exact.isnan() & other.isnan())
        finite = torch.isfinite(exact) & torch.isfinite(other)
        if not bool((same | finite).all()):
            return -math.inf
        exact, other = exact[finite], other[finite]
    noise = float((exact - other).square().sum())
    signal = float(exact.square().sum())
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf
