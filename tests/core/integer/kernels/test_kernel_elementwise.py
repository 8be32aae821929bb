"""Division of integers against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_kit import OUT, numbers

from quanthost.integer.kernels.elementwise import Divide


@given(a=st.integers(-128, 127), b=st.integers(-128, 127), ratio=st.floats(1e-3, 1e3))
@example(a=-5, b=7, ratio=1.0)
@example(a=127, b=7, ratio=1.0)
@example(a=-128, b=7, ratio=1.0)
def test_division(a: int, b: int, ratio: float) -> None:
    """The nearest integer, ties up; division by zero saturates, and zero over zero is the zero point."""
    operator = Divide(numbers(ratio, -5), numbers(1.0, 7), OUT)
    above, below = a + 5, b - 7
    if below:
        exact = Fraction(above, below) * Fraction(ratio)
        wanted = {max(-128, min(127, math.floor(exact * (1 + e) + Fraction(1, 2)) + 3)) for e in (
            Fraction(0), Fraction(1, 2**29), Fraction(-1, 2**29)
        )}  # fmt: skip
    else:
        wanted = {3 if not above else (127 if above > 0 else -128)}

    result = operator(torch.tensor([a], dtype=torch.int8), torch.tensor([b], dtype=torch.int8))

    assert int(result) in wanted


@pytest.mark.parametrize("ratio", [1e-30, 1e30])
def test_division_at_the_ends_of_its_scales(ratio: float) -> None:
    """Results that are all zero, or all beyond the range, do not overflow."""
    operator = Divide(numbers(ratio, 0), numbers(1.0, 0), OUT)

    result = operator(
        torch.tensor([1, -1, 0, 127], dtype=torch.int8), torch.tensor([127] * 4, dtype=torch.int8)
    )

    assert result.tolist() == ([3, 3, 3, 3] if ratio < 1 else [127, -128, 3, 127])
