"""Functions of one integer as tables: one entry for each number, or points with lines between them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quanthost.integer.kernels.forms import Form, IntegerOperator
from quanthost.integer.numbers import Numbers
from quanthost.values import ArithmeticProfile, Rescaling

__all__ = ["Interpolation", "Lookup", "function_operator", "function_table", "leaky_relu_table"]


class Lookup(IntegerOperator):
    """A function of one integer, as a table ``[entries]`` of its results from ``low`` upwards.

    A table ``[C, entries]`` has one function for each index of dimension 1.
    """

    table: Tensor
    starts: Tensor

    def __init__(self, table: Tensor, *, low: int, function: str) -> None:
        super().__init__()
        self.register_buffer("table", table)
        entries = table.shape[-1]
        # the place of number 0 in the flat table, for each channel
        starts = torch.arange(len(table) if table.dim() == 2 else 1) * entries - low
        # int32 indices are twice as fast
        self.register_buffer("starts", starts.to(torch.int32))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        shape = [-1] + [1] * (x.dim() - 2) if self.table.dim() == 2 else []
        places = x.to(torch.int32) + self.starts.reshape(shape)
        table = self.table.reshape(-1)
        if self.form is Form.EAGER:
            return table.index_select(0, places.reshape(-1)).reshape(x.shape)
        return table[places.to(torch.int64)]

    def extra_repr(self) -> str:
        return f"{self.function}, {' × '.join(map(str, self.table.shape))} entries"


class Interpolation(IntegerOperator):
    """A function of a 16-bit integer: 513 points with straight lines between them.

    The result is ``(t[i] (128 - f) + t[i + 1] f) / 2^15`` rounded half up, for point ``i`` and the offset
    ``f`` of 128 after it. Points have 8 fractional bits below the output's steps (LiteRT's int16 tables
    have the same 513 points without those bits). ``error`` is the largest distance, over all inputs, from
    the integer nearest to the real result.
    """

    points: Tensor

    def __init__(self, points: Tensor, out: Numbers, *, low: int, function: str, error: int = 0) -> None:
        super().__init__()
        self.register_buffer("points", points)
        self.out, self.low, self.function, self.error = out, low, function, error

    def forward(self, x: Tensor) -> Tensor:
        places = x.to(torch.int64) - self.low
        first = torch.bitwise_right_shift(places, 7)
        offset = places - first * 128
        total = self.points[first] * (128 - offset) + self.points[first + 1] * offset
        values = torch.bitwise_right_shift(total + 2**14, 15) + self.out.zero_point
        return values.clamp(self.out.low, self.out.high).to(self.out.dtype)

    def extra_repr(self) -> str:
        return f"{self.function}, 513 points, at most {self.error} LSB off"


def function_operator(
    function: Callable[[Tensor], Tensor],
    numbers: Numbers,
    out: Numbers,
    profile: ArithmeticProfile,
    name: str,
) -> Lookup | Interpolation:
    """A function of real numbers on integers: a table up to 8 bits, an interpolation beyond."""
    if numbers.high - numbers.low <= 255:
        return Lookup(function_table(function, numbers, out, profile), low=numbers.low, function=name)
    return _interpolation(function, numbers, out, name)


def _interpolation(
    function: Callable[[Tensor], Tensor], numbers: Numbers, out: Numbers, name: str
) -> Interpolation:
    levels = torch.arange(numbers.low, numbers.low + 2**16)
    exact = out.nearest(function(numbers.real(levels)))
    ends = torch.arange(numbers.low, numbers.low + 2**16 + 1, 2**7)
    real = function(numbers.real(ends)) / out.scale
    # points beyond the output's range would bend the last line inside it
    limits = (out.low - out.zero_point, out.high - out.zero_point)
    points = torch.round(real.nan_to_num(nan=0.0).clamp(*limits) * 2**8).to(torch.int64)
    operator = Interpolation(points, out, low=numbers.low, function=name)
    operator.error = int((operator(levels).to(torch.int64) - exact).abs().max())
    return operator


def function_table(
    function: Callable[[Tensor], Tensor], numbers: Numbers, out: Numbers, profile: ArithmeticProfile
) -> Tensor:
    """The result of a function of real numbers for each level, in integers of ``out``.

    For targets that compute in float32, as in XNNPACK's src/reference/unary-elementwise.cc: dequantize,
    apply the function, multiply by the reciprocal of the scale, add the zero point, round ties to even.
    For others, the integer nearest to the real result.
    """
    if profile.rescaling is not Rescaling.FP32_HALF_EVEN:
        return out.nearest(function(numbers.real(numbers.levels)).double()).to(out.dtype)
    scale, inverse = torch.tensor(numbers.scale), 1.0 / torch.tensor(out.scale)
    results = function((numbers.levels - numbers.zero_point).float() * scale) * inverse + out.zero_point
    levels = torch.round(results.nan_to_num(nan=out.zero_point, posinf=out.high, neginf=out.low))
    return levels.clamp(out.low, out.high).to(out.dtype)


def leaky_relu_table(numbers: Numbers, out: Numbers, slope: float, places: int) -> Tensor:
    """The results of leaky ReLU for each level, with slopes in fixed point.

    XNNPACK, src/qs8-vlrelu/scalar-select.c.in: ``(q - zero_point) × m + 2^(places - 1) >> places``, where
    ``m`` is the slope times the ratio of the scales times ``2^places``, in float32, ties to even.
    """
    ratio = torch.tensor(numbers.scale, dtype=torch.float32) / torch.tensor(out.scale, dtype=torch.float32)
    slopes = torch.stack([ratio, ratio * torch.tensor(slope, dtype=torch.float32)])
    above, below = torch.round(slopes * 2**places).to(torch.int64)
    centred = numbers.levels - numbers.zero_point
    values = (torch.where(centred >= 0, centred * above, centred * below) + 2 ** (places - 1)) >> places
    return (values + out.zero_point).clamp(out.low, out.high).to(out.dtype)
