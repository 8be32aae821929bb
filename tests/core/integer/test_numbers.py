"""Integers as real numbers: ends, ties, and the scales that accumulators are multiplied by."""

from __future__ import annotations

import math

import torch

from quanthost.integer.numbers import Numbers, effective_scales, quantize_bias
from quanthost.values import FP32_HALF_EVEN, GEMMLOWP

NUMBERS = Numbers(scale=0.5, zero_point=-3, low=-128, high=127, dtype=torch.int8)


def test_nearest_is_the_inverse_of_real() -> None:
    """Each level comes back; ties go to even before the zero point, and what lies outside saturates."""
    assert torch.equal(NUMBERS.nearest(NUMBERS.real(NUMBERS.levels)), NUMBERS.levels)
    given = torch.tensor([0.25, 0.75, 1e9, -1e9, math.nan], dtype=torch.float64)
    assert NUMBERS.nearest(given).tolist() == [-3, -1, 127, -128, -3]


def test_reach_and_clamp() -> None:
    """The reach counts from the zero point; bounds in real units move the ends."""
    assert NUMBERS.reach == 130
    clamped = NUMBERS.clamped(0.0, 6.0)
    assert (clamped.low, clamped.high) == (-3, 9)


def test_scales_round_as_the_target_does() -> None:
    """float32 after each step for one profile, float64 for the others."""
    exact = effective_scales(GEMMLOWP, [0.1, 0.3], 0.7)
    single = effective_scales(FP32_HALF_EVEN, [0.1, 0.3], 0.7)

    assert exact.item() == 0.1 * 0.3 / 0.7
    one, two, out = (torch.tensor([value], dtype=torch.float32) for value in (0.1, 0.3, 0.7))
    assert torch.equal(single, one * two / out)


def test_a_bias_is_in_units_of_the_accumulator() -> None:
    """It is divided by the product of both scales, ties to even, and is not saturated."""
    made = quantize_bias(torch.tensor([0.25, 0.75, 1e6]), 0.5, 1.0)

    assert made.tolist() == [0, 2, 2_000_000]
