"""Integer operators on single elements: sum, quotient, extremum of two tensors, and change of scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quanthost.arith.rescale import make_sum
from quanthost.integer.kernels.forms import IntegerOperator, Output, centre
from quanthost.integer.numbers import Numbers
from quanthost.values import ArithmeticProfile

__all__ = ["Add", "Divide", "Extremum", "Rescale"]


class Add(IntegerOperator):
    """``add`` or ``sub`` of two tensors, computed as the profile's target does.

    XNNPACK multiplies both by integers with a common shift. LiteRT rescales both to twice the larger input
    scale with 20 fractional bits, adds them, and rescales the sum.
    """

    def __init__(
        self, profile: ArithmeticProfile, a: Numbers, b: Numbers, out: Numbers, *, subtracts: bool
    ) -> None:
        super().__init__()
        self.a, self.b, self.out, self.subtracts = a, b, out, subtracts
        bits = 8 if max(a.high - a.low, b.high - b.low) < 256 else 16
        self.sum = make_sum(profile, a.scale, b.scale, out.scale, subtracts=subtracts, bits=bits)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        n = self.out
        values = self.sum(
            a, b, zero_points=(self.a.zero_point, self.b.zero_point),
            low=n.low - n.zero_point, high=n.high - n.zero_point,
        )  # fmt: skip
        return (values + n.zero_point).to(n.dtype)

    def extra_repr(self) -> str:
        return f"{'-' if self.subtracts else '+'}, {self.sum}"


class Divide(IntegerOperator):
    """``div`` of two tensors: ``(a - zero) / (b - zero)`` times the ratio of scales, rounded half up.

    The ratio has 30 bits. Division by zero saturates by the numerator's sign, as infinity does; zero over
    zero becomes the zero point, as NaN does.
    """

    # with 44 places, divisors of 17 bits and one bit for rounding fit in 63 bits
    _MOST_PLACES = 44

    def __init__(self, a: Numbers, b: Numbers, out: Numbers) -> None:
        super().__init__()
        self.zero_points, self.out = (a.zero_point, b.zero_point), out
        ratio = a.scale / (b.scale * out.scale)
        self.places = min(max(30 - math.frexp(ratio)[1], 0), self._MOST_PLACES)
        self.factor = round(min(math.ldexp(ratio, self.places), 2.0**self._MOST_PLACES))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        numerator = centre(a, self.zero_points[0], torch.int64)
        divisor = centre(b, self.zero_points[1], torch.int64)
        numerator = torch.where(divisor < 0, -numerator, numerator)
        unit = divisor.abs() * 2**self.places
        doubled = numerator * (2 * self.factor) + unit
        quotient = torch.div(doubled, (2 * unit).clamp(min=1), rounding_mode="floor")
        low, high = self.out.low - self.out.zero_point, self.out.high - self.out.zero_point
        saturated = torch.where(numerator == 0, 0, torch.where(numerator < 0, low, high))
        values = torch.where(divisor == 0, saturated, quotient).clamp(low, high)
        return (values + self.out.zero_point).to(self.out.dtype)

    def extra_repr(self) -> str:
        return f"zero_points={self.zero_points}, ratio={self.factor} / 2^{self.places}"


class Extremum(IntegerOperator):
    """``maximum`` or ``minimum`` of two tensors that have the result's scale and zero point."""

    def __init__(self, *, largest: bool) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b) if self.largest else torch.minimum(a, b)

    def extra_repr(self) -> str:
        return "maximum" if self.largest else "minimum"


class Rescale(IntegerOperator):
    """The same real values with another scale and zero point, for inputs too wide for a table."""

    def __init__(self, output: Output, *, zero_point: int) -> None:
        super().__init__()
        self.output, self.zero_point = output, zero_point

    def forward(self, x: Tensor) -> Tensor:
        return self.output(centre(x, self.zero_point, torch.int32))
