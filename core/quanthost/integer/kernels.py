"""Operators on integer tensors, each in two forms with the same numbers.

In eager torch they use the fastest arithmetic whose exactness a bound proves; the portable form, which is
what a program is made of, has integer tensors alone. The ``reference`` form is the portable one with the
rescaling written in float32, as PT2E's reference representation has it.
"""

from __future__ import annotations

import copy
import enum
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quanthost.arith.bounds import exact_dtype
from quanthost.arith.rescale import IntegerRescale, Multipliers, make_sum, rescale
from quanthost.integer.numbers import Numbers
from quanthost.values import ArithmeticProfile

__all__ = [
    "Add",
    "AveragePool",
    "Convolution",
    "Divide",
    "Extremum",
    "Form",
    "IntegerOperator",
    "Interpolation",
    "Linear",
    "Lookup",
    "MatMul",
    "MaxPool",
    "Mean",
    "Multiply",
    "Output",
    "Rescale",
    "WindowAverage",
    "set_form",
]


class Form(enum.Enum):
    """Which arithmetic an operator computes its numbers with."""

    EAGER = "eager"
    PORTABLE = "portable"
    REFERENCE = "reference"


class IntegerOperator(nn.Module):  # type: ignore[misc]
    """An operator whose tensors are integers; ``form`` says how it computes, never what."""

    form = Form.EAGER


def set_form(module: nn.Module, form: Form) -> None:
    """Let every integer operator of a module compute in that form.

    Other modules may hold the operators below too: copies with the same tensors take their places here.
    """
    if isinstance(module, IntegerOperator):
        module.form = form
    for name, child in module._modules.items():
        if child is not None:
            own = copy.copy(child)
            own._modules = dict(child._modules)
            module._modules[name] = own
            set_form(own, form)


class Output(IntegerOperator):
    """From an accumulator to the numbers of the result: rescaled, zero point added, clamped.

    ``offset`` is added before the rounding and taken away after it: ties go by the sum. The multipliers
    broadcast over the accumulator, whose largest magnitude is ``bound``, and ``products`` without the bias.
    """

    def __init__(
        self,
        multipliers: Multipliers,
        numbers: Numbers,
        *,
        bound: int,
        products: int | None = None,
        offset: int = 0,
    ) -> None:
        super().__init__()
        self.multipliers, self.numbers, self.bound = multipliers, numbers, bound
        self.products = bound if products is None else products
        self.offset = offset
        self.exact = IntegerRescale.make(
            self.multipliers, bound=bound, offset=offset,
            low=numbers.low - numbers.zero_point, high=numbers.high - numbers.zero_point,
        )  # fmt: skip

    def forward(self, accumulator: Tensor) -> Tensor:
        n = self.numbers
        if self.form is Form.PORTABLE:
            return (self.exact(accumulator.to(torch.int64)) + n.zero_point).to(n.dtype)
        if self.form is Form.REFERENCE:
            values = torch.round(accumulator.to(torch.float32) * self.multipliers.scale + self.offset)
            return (values - self.offset + n.zero_point).clamp(n.low, n.high).to(n.dtype)
        values = rescale(accumulator, self.multipliers, offset=self.offset)
        return values.add_(n.zero_point).clamp_(n.low, n.high).to(n.dtype)

    def extra_repr(self) -> str:
        n = self.numbers
        return (
            f"{self.multipliers.profile.name}, scale={n.scale:.6g}, zero_point={n.zero_point}, "
            f"{n.low}..{n.high} {str(n.dtype).removeprefix('torch.')}, |accumulator| <= {self.bound}"
        )


def _centred(x: Tensor, zero_point: int, dtype: torch.dtype) -> Tensor:
    moved = x.to(dtype)
    return moved if zero_point == 0 else moved - zero_point


def _integer_dtype(bound: int) -> torch.dtype:
    return torch.int32 if bound < 2**31 else torch.int64


def _summing(
    operator: Convolution | Linear, bias: Tensor | None
) -> tuple[torch.dtype, Tensor | None, Tensor | None]:
    """The dtype in which products are summed, the bias to start from in it, and the one to add afterwards.

    A bias may need more bits than the products: float32 sums those of most layers exactly, without it.
    """
    output = operator.output
    wide = _integer_dtype(output.bound)
    if operator.form is not Form.EAGER:
        return wide, None, None if bias is None else bias.to(wide)
    dtype = exact_dtype(output.products)
    if bias is None or exact_dtype(output.bound) is dtype:
        return dtype, None if bias is None else bias.to(dtype), None
    return dtype, None, bias.to(wide)


class Convolution(IntegerOperator):
    """``convolution`` of integers: of one, two or three dimensions, grouped, dilated, transposed.

    ``weight`` is int8 as the float operator has it, ``bias`` int32 or int64 ``[C]`` or ``None``.
    ``pad`` is padding that is not the same on both sides, as ``torch.nn.functional.pad`` takes it.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        output: Output,
        *,
        zero_point: int,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool = False,
        output_padding: Sequence[int],
        groups: int = 1,
        pad: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.output, self.zero_point, self.pad, self.groups = output, zero_point, list(pad), groups
        self.stride, self.padding, self.dilation = list(stride), list(padding), list(dilation)
        self.transposed, self.output_padding = transposed, list(output_padding)

    def forward(self, x: Tensor) -> Tensor:
        dtype, bias, later = _summing(self, self.bias)
        moved = _centred(x, self.zero_point, dtype)
        if self.pad:
            moved = F.pad(moved, self.pad)
        batched = moved.dim() == self.weight.dim()
        accumulator = torch.convolution(
            moved if batched else moved.unsqueeze(0), self.weight.to(dtype), bias, self.stride,
            self.padding, self.dilation, self.transposed, self.output_padding, self.groups,
        )  # fmt: skip
        if later is not None:
            shape = [-1] + [1] * (self.weight.dim() - 2)
            accumulator = accumulator.to(later.dtype) + later.reshape(shape)
        made: Tensor = self.output(accumulator if batched else accumulator.squeeze(0))
        return made

    def extra_repr(self) -> str:
        kind = "transposed " if self.transposed else ""
        return (
            f"{kind}int8{list(self.weight.shape)}, zero_point={self.zero_point}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        )


class Linear(IntegerOperator):
    """``linear`` of integers: ``x [..., K]``, ``weight [N, K]`` int8, ``bias [N]`` or ``None``.

    With ``groups`` the ``K`` columns lie in groups of equal size with scales of their own; the groups'
    sums are rescaled to int32 units of the smallest scale, see ``GroupedLinear``.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, output: Output, *, zero_point: int) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.output, self.zero_point = output, zero_point

    def forward(self, x: Tensor) -> Tensor:
        dtype, bias, later = _summing(self, self.bias)
        moved = _centred(x, self.zero_point, dtype)
        if self.form is Form.EAGER:
            accumulator = F.linear(moved, self.weight.to(dtype), bias)
        else:
            rows = torch.mm(moved.reshape(-1, self.weight.shape[1]), self.weight.to(dtype).t())
            accumulator = rows.reshape(*x.shape[:-1], self.weight.shape[0])
        if later is not None:
            accumulator = accumulator.to(later.dtype) + later
        made: Tensor = self.output(accumulator)
        return made

    def extra_repr(self) -> str:
        return f"int8{list(self.weight.shape)}, zero_point={self.zero_point}"


class _Product(IntegerOperator):
    """A product of two computed tensors, each without its zero point."""

    product: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, output: Output, *, zero_points: tuple[int, int]) -> None:
        super().__init__()
        self.output, self.zero_points = output, zero_points

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        bound = self.output.bound
        dtype = exact_dtype(bound) if self.form is Form.EAGER else _integer_dtype(bound)
        moved = (_centred(x, zero_point, dtype) for x, zero_point in zip((a, b), self.zero_points))
        made: Tensor = self.output(self.product(*moved))
        return made

    def extra_repr(self) -> str:
        return f"zero_points={self.zero_points}"


class MatMul(_Product):
    """``matmul`` of two computed tensors."""

    product = staticmethod(torch.matmul)


class Multiply(_Product):
    """``mul`` of two tensors."""

    product = staticmethod(torch.mul)


class Divide(IntegerOperator):
    """``div`` of two tensors: ``(a - zero) / (b - zero)`` times the ratio of scales, rounded half up.

    The ratio has 30 bits. Division by zero saturates at the end of the numerator's sign, as infinities do;
    zero over zero becomes the zero point, as NaN does.
    """

    # 44: divisors of 17 bits and a place for the half stay within 63 bits
    _MOST_PLACES = 44

    def __init__(self, a: Numbers, b: Numbers, out: Numbers) -> None:
        super().__init__()
        self.zero_points, self.out = (a.zero_point, b.zero_point), out
        ratio = a.scale / (b.scale * out.scale)
        self.places = min(max(30 - math.frexp(ratio)[1], 0), self._MOST_PLACES)
        self.factor = round(min(math.ldexp(ratio, self.places), 2.0**self._MOST_PLACES))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        above = _centred(a, self.zero_points[0], torch.int64)
        below = _centred(b, self.zero_points[1], torch.int64)
        above = torch.where(below < 0, -above, above)
        unit = below.abs() * 2**self.places
        quotient = torch.div(above * (2 * self.factor) + unit, (2 * unit).clamp(min=1), rounding_mode="floor")
        low, high = self.out.low - self.out.zero_point, self.out.high - self.out.zero_point
        saturated = torch.where(above == 0, 0, torch.where(above < 0, low, high))
        values = torch.where(below == 0, saturated, quotient).clamp(low, high)
        return (values + self.out.zero_point).to(self.out.dtype)

    def extra_repr(self) -> str:
        return f"zero_points={self.zero_points}, ratio={self.factor} / 2^{self.places}"


class Add(IntegerOperator):
    """``add`` or ``sub`` of two tensors, by the profile's own rule.

    XNNPACK multiplies both by integers of one common shift; LiteRT rescales both to twice the larger of the
    input scales with 20 bits behind the point, adds, and rescales the sum.
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
            a,
            b,
            zero_points=(self.a.zero_point, self.b.zero_point),
            low=n.low - n.zero_point,
            high=n.high - n.zero_point,
        )
        made: Tensor = (values + n.zero_point).to(n.dtype)
        return made

    def extra_repr(self) -> str:
        return f"{'-' if self.subtracts else '+'}, {self.sum}"


class Rescale(IntegerOperator):
    """The same real values in other numbers, where there are too many for a table."""

    def __init__(self, output: Output, *, zero_point: int) -> None:
        super().__init__()
        self.output, self.zero_point = output, zero_point

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.output(_centred(x, self.zero_point, torch.int32))
        return made


class Lookup(IntegerOperator):
    """A function of one number of at most 16 bits, as a table of its results from ``low`` upwards.

    With ``channels``, the table is ``[C, entries]``, one function for each index of dimension 1.
    """

    table: Tensor
    starts: Tensor

    def __init__(self, table: Tensor, *, low: int, function: str) -> None:
        super().__init__()
        self.register_buffer("table", table)
        entries = table.shape[-1]
        # where the entry of number 0 lies in the table of each channel
        starts = torch.arange(len(table) if table.dim() == 2 else 1) * entries - low
        # int32 indices are read twice as fast
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
    """A function of a 16-bit number: 513 points, and straight lines between them.

    The result is ``(t[i] (128 - f) + t[i + 1] f) / 2^15`` rounded half up, for the point ``i`` and the
    place ``f`` of 128 behind it; points have 8 bits behind the output's steps (LiteRT's int16 tables have
    the same 513 points, without those bits). ``error`` is the largest distance from the nearest integer
    to the real value, over all numbers.
    """

    points: Tensor

    def __init__(self, points: Tensor, out: Numbers, *, low: int, function: str, error: int = 0) -> None:
        super().__init__()
        self.register_buffer("points", points)
        self.out, self.low, self.function, self.error = out, low, function, error

    def forward(self, x: Tensor) -> Tensor:
        places = x.to(torch.int64) - self.low
        first = torch.bitwise_right_shift(places, 7)
        behind = places - first * 128
        total = self.points[first] * (128 - behind) + self.points[first + 1] * behind
        values = torch.bitwise_right_shift(total + 2**14, 15) + self.out.zero_point
        return values.clamp(self.out.low, self.out.high).to(self.out.dtype)

    def extra_repr(self) -> str:
        return f"{self.function}, 513 points, at most {self.error} LSB off"


class Extremum(IntegerOperator):
    """``maximum`` or ``minimum`` of two tensors in the numbers of the result."""

    def __init__(self, *, largest: bool) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b) if self.largest else torch.minimum(a, b)

    def extra_repr(self) -> str:
        return "maximum" if self.largest else "minimum"


class Mean(IntegerOperator):
    """``mean`` over dimensions: the sum of the centred numbers, with 1 / count in the scale."""

    def __init__(self, output: Output, *, zero_point: int, dims: Sequence[int], keepdim: bool) -> None:
        super().__init__()
        self.output, self.zero_point = output, zero_point
        self.dims, self.keepdim = list(dims), keepdim

    def forward(self, x: Tensor) -> Tensor:
        bound = self.output.bound
        if self.form is Form.EAGER:
            total = _centred(x, self.zero_point, exact_dtype(bound)).sum(self.dims, self.keepdim)
        else:
            total = _centred(x, self.zero_point, torch.int32).sum(self.dims, self.keepdim, dtype=torch.int64)
        made: Tensor = self.output(total)
        return made

    def extra_repr(self) -> str:
        return f"dims={self.dims}, keepdim={self.keepdim}, zero_point={self.zero_point}"


class AveragePool(IntegerOperator):
    """Averages over windows of two dimensions that all count the same number of elements."""

    def __init__(
        self,
        output: Output,
        *,
        zero_point: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> None:
        super().__init__()
        self.output, self.zero_point = output, zero_point
        self.kernel, self.stride, self.padding = list(kernel), list(stride), list(padding)

    def forward(self, x: Tensor) -> Tensor:
        bound = self.output.bound
        if self.form is Form.EAGER:
            moved = _centred(x, self.zero_point, exact_dtype(bound))
            total = F.avg_pool2d(moved, self.kernel, self.stride, self.padding, divisor_override=1)
        else:
            # kernels average floats only; a convolution with ones over each channel sums integers
            moved = _centred(x, self.zero_point, torch.int32)
            height, width = moved.shape[-2:]
            planes = moved.reshape(-1, 1, height, width)
            ones = torch.ones((1, 1, *self.kernel), dtype=torch.int32)
            total = torch.convolution(planes, ones, None, self.stride, self.padding, [1, 1], False, [0, 0], 1)
            total = total.reshape(*moved.shape[:-2], *total.shape[-2:])
        made: Tensor = self.output(total)
        return made

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"


class WindowAverage(IntegerOperator):
    """Averages over windows that need not count the same number of elements.

    ``columns`` ``[W', W]`` has a 1 for each element of the last dimension that a window reads, ``rows``
    ``[H', H]`` for the dimension before it; without ``rows`` windows have one dimension.
    """

    rows: Tensor | None
    columns: Tensor

    def __init__(self, output: Output, rows: Tensor | None, columns: Tensor, *, zero_point: int) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        self.output, self.zero_point = output, zero_point

    def forward(self, x: Tensor) -> Tensor:
        dtype = exact_dtype(self.output.bound) if self.form is Form.EAGER else torch.int32
        total = torch.matmul(_centred(x, self.zero_point, dtype), self.columns.to(dtype).t())
        if self.rows is not None:
            total = torch.matmul(self.rows.to(dtype), total)
        made: Tensor = self.output(total)
        return made

    def extra_repr(self) -> str:
        matrices = [m for m in (self.rows, self.columns) if m is not None]
        return (
            f"{' × '.join(f'{m.shape[1]} to {m.shape[0]}' for m in matrices)}, zero_point={self.zero_point}"
        )


class MaxPool(IntegerOperator):
    """Maxima over windows of one or two dimensions; order is all that counts."""

    def __init__(
        self,
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        ceil: bool,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = list(kernel), list(stride), list(padding)
        self.dilation, self.ceil = list(dilation), ceil

    def forward(self, x: Tensor) -> Tensor:
        line = len(self.kernel) == 1
        image = x.unsqueeze(-2) if line else x
        made = F.max_pool2d(
            image.to(torch.float32) if self.form is Form.EAGER else image,
            *([1, *self.kernel], [1, *self.stride], [0, *self.padding], [1, *self.dilation]) if line
            else (self.kernel, self.stride, self.padding, self.dilation),
            ceil_mode=self.ceil,
        ).to(x.dtype)  # fmt: skip
        return made.squeeze(-2) if line else made

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"
