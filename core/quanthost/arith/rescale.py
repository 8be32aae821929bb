"""Rescales accumulators by real scales with the target's exact rounding, in float and integer arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs
import torch
from torch import Tensor

from quanthost.errors import ConversionError
from quanthost.values import ArithmeticProfile, Rescaling

__all__ = [
    "CommonShiftSum",
    "IntegerRescale",
    "Multipliers",
    "RescaledSum",
    "make_sum",
    "powers_of_two",
    "rescale",
]

# beyond these XNNPACK asserts (src/microparams-init.c), and LiteRT and TOSA's RESCALE are undefined
_SHIFTS = {
    Rescaling.FP32_HALF_EVEN: (16, 55),
    Rescaling.GEMMLOWP: (1, 62),
    Rescaling.SINGLE_ROUNDING: (1, 62),
    Rescaling.FIXED_POINT_32X31: (2, 62),
    Rescaling.POWER_OF_TWO: (0, 31),
}


@attrs.frozen(kw_only=True, eq=False)
class Multipliers:
    """Scales as a profile represents them: ``multiplier × 2^-shift``.

    All tensors are one-dimensional and of the same length: ``scale`` is float32, the others are int64. For a
    profile that computes in float32, the multiplier is the scale's mantissa of 24 bits.
    """

    profile: ArithmeticProfile
    scale: Tensor
    multiplier: Tensor
    shift: Tensor

    @classmethod
    def make(
        cls, profile: ArithmeticProfile, scales: Tensor, *, operator: str = "an operator"
    ) -> Multipliers:
        """Make multipliers for real scales, float32 or float64 ``[C]``.

        Fixed-point profiles use the mantissa of 31 bits nearest to the scale (LiteRT,
        ``QuantizeMultiplier``; TOSA 1.0, RESCALE, the same numbers). A power of two is the nearest by its
        logarithm.

        Raises:
            ConversionError: a scale is not a normal positive number, or is outside the profile's range.
        """
        scales = scales.reshape(-1)
        if not bool((torch.isfinite(scales) & (scales > 0)).all()):
            wrong = ~(torch.isfinite(scales) & (scales > 0))
            raise _scale_error(operator, scales, wrong, "a positive number")
        multiplier, shift = _fixed_point(profile.rescaling, scales)
        low, high = _SHIFTS[profile.rescaling]
        outside = (shift < low) | (shift > high)
        if bool(outside.any()):
            bits = int(multiplier.max()).bit_length()
            needed = f"from about 2^{bits - 1 - high} to 2^{bits - low}, the range of {profile.name}"
            raise _scale_error(operator, scales, outside, needed)
        return cls(profile=profile, scale=scales.to(torch.float32), multiplier=multiplier, shift=shift)

    def shaped(self, shape: Sequence[int]) -> Multipliers:
        """The same in a shape that broadcasts over accumulators; a single multiplier gets shape ``[]``."""
        target = () if self.scale.numel() == 1 else tuple(shape)
        return attrs.evolve(
            self, scale=self.scale.reshape(target), multiplier=self.multiplier.reshape(target),
            shift=self.shift.reshape(target),
        )  # fmt: skip

    def room(self, bound: int) -> int:
        """The magnitude that must fit in int32 to rescale accumulators up to ``bound``.

        gemmlowp shifts accumulators left before it multiplies; TOSA 1.0, ``apply_scale_32``, requires them
        below ``2^(shift - 1)``.
        """
        places = {Rescaling.GEMMLOWP: 31, Rescaling.FIXED_POINT_32X31: 32}.get(self.profile.rescaling, 0)
        return bound << max(0, places - int(self.shift.min()))


def _scale_error(operator: str, scales: Tensor, wrong: Tensor, needed: str) -> ConversionError:
    channel = int(wrong.nonzero()[0])
    return ConversionError(
        f"{operator} would be rescaled by {float(scales[channel]):.6g} in channel {channel}",
        needed=needed, stage="convert", node=operator, value=float(scales[channel]),
        remedy="calibrate with data that reaches this operator, keep it in float by an override, or choose"
        " another profile",
    )  # fmt: skip


def _fixed_point(rescaling: Rescaling, scales: Tensor) -> tuple[Tensor, Tensor]:
    if rescaling is Rescaling.POWER_OF_TWO:
        return torch.ones_like(scales, dtype=torch.int64), -torch.round(torch.log2(scales.double())).to(
            torch.int64
        )
    bits = 24 if rescaling is Rescaling.FP32_HALF_EVEN else 31
    exact = (scales.to(torch.float32) if bits == 24 else scales).double()
    mantissa, exponent = torch.frexp(exact)
    # half away from zero, as std::round
    multiplier = torch.floor(mantissa * 2.0**bits + 0.5).to(torch.int64)
    carried = multiplier == 2**bits
    return torch.where(carried, multiplier // 2, multiplier), bits - (exponent + carried).to(torch.int64)


def rescale(accumulator: Tensor, multipliers: Multipliers, *, offset: int = 0) -> Tensor:
    """The product with the profile's rounding, before clamp and zero point.

    Profiles that compute in float32 add ``offset`` before the rounding and subtract it after.
    ``accumulator`` has whole numbers of any dtype, and the multipliers broadcast over it. The result is
    saturated int32 for fixed-point profiles, and whole numbers in float32 for those that compute in float32.
    """
    if multipliers.profile.rescaling is Rescaling.FP32_HALF_EVEN:
        product = accumulator.to(torch.float32) * multipliers.scale
        return product.add_(offset).round_().sub_(offset) if offset else product.round_()
    product = _fixed_product(accumulator.to(torch.int64), multipliers)
    return product.clamp(-(2**31), 2**31 - 1).to(torch.int32)


@attrs.frozen(kw_only=True, eq=False)
class IntegerRescale:
    """The numbers of ``rescale`` between ``low`` and ``high``, computed with integer operators only.

    Accumulators are int64 with magnitudes up to ``bound``, which is below 2^31 for profiles that compute in
    float32; ``low`` and ``high`` lie within ±2^16. No intermediate number reaches 2^62.
    """

    multipliers: Multipliers
    low: int
    high: int
    bound: int
    offset: int
    # for float32: magnitudes above the limit are clamped in any case; products from 2^(shift + k) have
    # k + 1 integer bits
    limit: Tensor
    thresholds: tuple[Tensor, ...]

    @classmethod
    def make(
        cls, multipliers: Multipliers, *, low: int, high: int, bound: int, offset: int = 0
    ) -> IntegerRescale:
        """Make it from multipliers that broadcast over the accumulators; ``offset`` as in ``rescale``."""
        most = max(abs(low), abs(high)) + 2 + abs(offset)
        limits = [
            (most << shift) // multiplier + 1
            for multiplier, shift in zip(
                multipliers.multiplier.reshape(-1).tolist(), multipliers.shift.reshape(-1).tolist()
            )
        ]
        limit = torch.tensor([min(n, 2**31) for n in limits]).reshape(multipliers.shift.shape)
        thresholds = tuple(
            powers_of_two((multipliers.shift + k).clamp(max=62)) for k in range(most.bit_length() + 1)
        )
        return cls(
            multipliers=multipliers, low=low, high=high, bound=bound, offset=offset, limit=limit,
            thresholds=thresholds,
        )  # fmt: skip

    def __call__(self, accumulator: Tensor) -> Tensor:
        """int64 numbers, without the zero point."""
        if self.multipliers.profile.rescaling is not Rescaling.FP32_HALF_EVEN:
            return _fixed_product(accumulator, self.multipliers).clamp(self.low, self.high)
        shift = self.multipliers.shift
        magnitude = torch.minimum(accumulator.abs(), self.limit)
        if self.bound >= 2**24:
            # float32(accumulator) has 24 bits
            dropped = _count(magnitude, [2**bit for bit in range(24, 32)])
            magnitude = _half_even(magnitude, dropped) * powers_of_two(dropped)
        product = self._float32(magnitude * self.multipliers.multiplier)
        negative = accumulator < 0
        if self.offset:
            total = torch.where(negative, -product, product) + self.offset * powers_of_two(shift)
            negative, product = total < 0, self._float32(total.abs())
        rounded = _half_even(product, shift)
        return (torch.where(negative, -rounded, rounded) - self.offset).clamp(self.low, self.high)

    def _float32(self, product: Tensor) -> Tensor:
        """Round a product in units of ``2^-shift`` to the 24 bits of a float32.

        Below 1/2 a float32 has more bits than this; both round to 0.
        """
        dropped = (_count(product, self.thresholds) + (self.multipliers.shift - 24)).clamp(min=0)
        return _half_even(product, dropped) * powers_of_two(dropped)


def _count(value: Tensor, thresholds: Iterable[Tensor | int]) -> Tensor:
    """The number of thresholds that each number reaches, int64."""
    return sum(((value >= threshold).to(torch.int64) for threshold in thresholds), torch.zeros_like(value))


def _shift_right(value: Tensor, shift: Tensor | int) -> Tensor:
    # runtimes have a kernel for this operator, but not for ``>>``
    return torch.bitwise_right_shift(value, shift)


def powers_of_two(exponent: Tensor) -> Tensor:
    """``2^exponent`` for int64 exponents 0 to 62."""
    return torch.bitwise_left_shift(torch.ones_like(exponent), exponent)


def _half_even(value: Tensor, shift: Tensor) -> Tensor:
    """``value × 2^-shift`` for numbers from 0 to 2^61, ties to even."""
    whole = _shift_right(value, shift)
    unit = powers_of_two(shift)
    twice = (value - whole * unit) * 2
    odd = (whole - _shift_right(whole, 1) * 2) == 1
    return whole + ((twice > unit) | ((twice == unit) & odd)).to(torch.int64)


def _fixed_product(accumulator: Tensor, multipliers: Multipliers) -> Tensor:
    multiplier, shift = multipliers.multiplier, multipliers.shift
    rescaling = multipliers.profile.rescaling
    if rescaling is Rescaling.GEMMLOWP:
        return _gemmlowp(accumulator, multiplier, shift)
    half = powers_of_two((shift - 1).clamp(min=0)) * (shift > 0).to(torch.int64)
    if multipliers.profile.double_round:
        # apply_scale_32: a first rounding at bit 31, for shifts above 31
        first = (shift > 31).to(torch.int64) * 2**30
        half = half + torch.where(accumulator >= 0, first, -first)
    return _shift_right(accumulator * multiplier + half, shift)


def _gemmlowp(accumulator: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
    left, right = (31 - shift).clamp(min=0), (shift - 31).clamp(min=0)
    product = accumulator * powers_of_two(left) * multiplier
    # C++ divides towards zero: (p + 2^30) / 2^31 for p >= 0, (p + 1 - 2^30) / 2^31 for p < 0
    below = -_shift_right(2**30 - 1 - product, 31)
    high = torch.where(product >= 0, _shift_right(product + 2**30, 31), below)
    whole, unit = _shift_right(high, right), powers_of_two(right)
    rest = high - whole * unit
    threshold = _shift_right(unit - 1, 1) + (high < 0).to(torch.int64)
    return whole + (rest > threshold).to(torch.int64)


@attrs.frozen(kw_only=True)
class CommonShiftSum:
    """XNNPACK's sum of two int8 tensors: ``(a m_a + b m_b + 2^(s-1)) >> s``.

    The multipliers are the ratios of the scales times 2^s, ties to even, with 20 bits below the larger
    ratio (XNNPACK, src/microparams-init.c, ``xnn_init_qs8_add_minmax_scalar_params``).
    """

    multipliers: tuple[int, int]
    shift: int

    @classmethod
    def make(cls, a_scale: float, b_scale: float, out_scale: float, *, subtracts: bool) -> CommonShiftSum:
        """Make the sum; raises ConversionError if the larger ratio is outside 2^-10 to 2^8, as in XNNPACK."""
        ratios = torch.tensor([a_scale, b_scale], dtype=torch.float32) / torch.tensor(
            out_scale, dtype=torch.float32
        )
        largest = float(ratios.max())
        if not 2.0**-10 <= largest < 2.0**8:
            raise _scale_error("a sum", ratios, ratios == ratios.max(), "a ratio from 2^-10 to 2^8")
        shift = 20 - (math.frexp(largest)[1] - 1)
        a, b = torch.round(ratios.double() * 2.0**shift).to(torch.int64).tolist()
        return cls(multipliers=(a, -b if subtracts else b), shift=shift)

    def __call__(self, a: Tensor, b: Tensor, *, zero_points: tuple[int, int], low: int, high: int) -> Tensor:
        """Whole numbers between ``low`` and ``high``, int32, without the output's zero point."""
        bias = (1 << (self.shift - 1)) - sum(m * z for m, z in zip(self.multipliers, zero_points))
        total = a.to(torch.int32) * self.multipliers[0] + b.to(torch.int32) * self.multipliers[1] + bias
        return _shift_right(total, self.shift).clamp(low, high)


@attrs.frozen(kw_only=True, eq=False)
class RescaledSum:
    """LiteRT's sum: both operands in units of twice the larger scale, with ``left`` fractional bits.

    LiteRT, kernels/internal/reference/add.h and kernels/add.cc: 20 bits for 8-bit operands, 15 for 16-bit
    ones. TOSA's legalization of ``tfl.add`` emits the same three RESCALE operators.
    """

    first: Multipliers
    second: Multipliers
    out: Multipliers
    left: int
    subtracts: bool

    @classmethod
    def make(
        cls,
        profile: ArithmeticProfile,
        a_scale: float,
        b_scale: float,
        out_scale: float,
        *,
        subtracts: bool,
        left: int = 20,
    ) -> RescaledSum:
        unit = 2 * max(a_scale, b_scale)
        ratios = (a_scale / unit, b_scale / unit, unit / (out_scale * 2**left))
        first, second, out = (
            Multipliers.make(profile, torch.tensor([ratio], dtype=torch.float64), operator="a sum")
            for ratio in ratios
        )
        return cls(first=first, second=second, out=out, left=left, subtracts=subtracts)

    def __call__(self, a: Tensor, b: Tensor, *, zero_points: tuple[int, int], low: int, high: int) -> Tensor:
        """Whole numbers between ``low`` and ``high``, int64, without the output's zero point."""
        one, two = (
            _fixed_product((x.to(torch.int64) - zero) * 2**self.left, multipliers)
            for x, zero, multipliers in zip((a, b), zero_points, (self.first, self.second))
        )
        total = one - two if self.subtracts else one + two
        return _fixed_product(total, self.out).clamp(low, high)


def make_sum(
    profile: ArithmeticProfile,
    a_scale: float,
    b_scale: float,
    out_scale: float,
    *,
    subtracts: bool,
    bits: int = 8,
) -> CommonShiftSum | RescaledSum:
    """Make the sum of two tensors of ``bits`` bits in a profile's arithmetic.

    Raises:
        ConversionError: a ratio of the scales is outside the profile's range.
    """
    if profile.rescaling is Rescaling.FP32_HALF_EVEN and bits <= 8:
        return CommonShiftSum.make(a_scale, b_scale, out_scale, subtracts=subtracts)
    if profile.rescaling is Rescaling.FP32_HALF_EVEN:
        raise ConversionError(
            f"a sum of {bits}-bit tensors with the profile {profile.name}", needed="8-bit tensors",
            stage="convert",
            remedy="choose a fixed-point profile such as gemmlowp", value=bits,
        )  # fmt: skip
    return RescaledSum.make(
        profile, a_scale, b_scale, out_scale, subtracts=subtracts, left=20 if bits <= 8 else 15
    )
