"""Rescaling as in the specifications, one number at a time, with Python's integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import torch

from quanthost.values import ArithmeticProfile, Rescaling

__all__ = ["float32", "half_even", "rescaled", "saturate"]


def half_even(value: Fraction) -> int:
    """Nearest integer, ties to even."""
    return round(value)


def float32(value: Fraction) -> Fraction:
    """The float32 nearest to a number in its normal range: 24 bits, ties to even (IEEE 754, 4.3.1)."""
    if value == 0:
        return value
    exponent = math.floor(math.log2(abs(value)))
    # the logarithm of a double may be off by one at powers of two
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    return half_even(value / unit) * unit


def saturate(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def rescaled(profile: ArithmeticProfile, accumulator: int, scale: float) -> int:
    """The accumulator times a positive scale, rounded as the profile says, not clamped."""
    if profile.rescaling is Rescaling.FP32_HALF_EVEN:
        exact = Fraction(float(torch.tensor(scale, dtype=torch.float32)))
        return half_even(float32(float32(Fraction(accumulator)) * exact))
    if profile.rescaling is Rescaling.POWER_OF_TWO:
        shift = -round(math.log2(scale))
        return (accumulator + (1 << shift >> 1)) >> shift
    multiplier, exponent = _quantized_multiplier(scale)
    if profile.rescaling is Rescaling.GEMMLOWP:
        left, right = max(exponent, 0), max(-exponent, 0)
        return _rounding_divide_by_pot(_doubling_high_mul(accumulator << left, multiplier), right)
    shift = 31 - exponent
    rounding = 1 << (shift - 1)
    if profile.double_round and shift > 31:
        rounding += 1 << 30 if accumulator >= 0 else -(1 << 30)
    return (accumulator * multiplier + rounding) >> shift


def _quantized_multiplier(scale: float) -> tuple[int, int]:
    """A mantissa from 2^30 to 2^31 - 1, and the exponent of 2 (LiteRT, ``QuantizeMultiplier``)."""
    mantissa, exponent = math.frexp(scale)
    fixed = math.floor(mantissa * 2**31 + 0.5)
    return (fixed // 2, exponent + 1) if fixed == 2**31 else (fixed, exponent)


def _doubling_high_mul(a: int, b: int) -> int:
    """gemmlowp, ``SaturatingRoundingDoublingHighMul``: C++ division, which drops the fraction."""
    product = a * b
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    total = product + nudge
    return total // 2**31 if total >= 0 else -(-total // 2**31)


def _rounding_divide_by_pot(value: int, exponent: int) -> int:
    """gemmlowp, ``RoundingDivideByPOT``: ties away from zero."""
    mask = (1 << exponent) - 1
    remainder = value & mask
    threshold = (mask >> 1) + (1 if value < 0 else 0)
    return (value >> exponent) + (1 if remainder > threshold else 0)
