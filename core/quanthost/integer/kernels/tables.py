"""Functions of one integer as tables: one entry for each number, or points with lines between them."""

from __future__ import annotations

import torch
from torch import Tensor

from quanthost.integer.kernels.forms import Form, IntegerOperator
from quanthost.integer.numbers import Numbers

__all__ = ["Interpolation", "Lookup"]


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
