"""Numbers, random tensors and slow rescaling for the tests of integer kernels."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from quanthost.arith.rescale import Multipliers
from quanthost.integer.kernels.forms import Form, Output
from quanthost.integer.numbers import Numbers
from quanthost.values import FP32_HALF_EVEN

each_form = pytest.mark.parametrize("form", [Form.EAGER, Form.PORTABLE, Form.REFERENCE])

OUT = Numbers(scale=1.0, zero_point=3, low=-128, high=127, dtype=torch.int8)


def numbers(scale: float = 0.05, zero_point: int = -5) -> Numbers:
    return Numbers(scale=scale, zero_point=zero_point, low=-128, high=127, dtype=torch.int8)


WIDE = Numbers(scale=0.001, zero_point=0, low=-32768, high=32767, dtype=torch.int16)


def draw(*shape: int, low: int = -128, high: int = 127, dtype: torch.dtype = torch.int8) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(low, high + 1, shape, generator=generator).to(dtype)


def output(
    scales: Sequence[float], bound: int, shape: Sequence[int] = (), *, out: Numbers = OUT, offset: int = 0
) -> Output:
    multipliers = Multipliers.make(FP32_HALF_EVEN, torch.tensor(scales, dtype=torch.float32))
    return Output(multipliers.shaped(shape), out, bound=bound, offset=offset)


def rounded(accumulator: int, scale: float, out: Numbers = OUT, offset: int = 0) -> int:
    """XNNPACK's rescaling of accumulators that float32 holds, for scales that are powers of two."""
    value = round(Fraction(accumulator) * Fraction(scale) + offset) - offset + out.zero_point
    return max(out.low, min(out.high, value))
