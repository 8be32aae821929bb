"""Softmax and layer norm in integer arithmetic, each with a stated largest error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quanthost.arith.rescale import powers_of_two
from quanthost.integer.kernels.forms import IntegerOperator
from quanthost.integer.numbers import Numbers

__all__ = ["LayerNorm", "Softmax", "integer_root"]

_EXP_BITS = 23


class Softmax(IntegerOperator):
    """``softmax`` over one dimension of ``count`` numbers, at most 65,536.

    ``exp`` is a table of ``round(2²³ exp(-d × scale))`` for each distance ``d`` from the maximum; the
    result is ``e × (1 / output scale) / Σ e``, rounded half up. ``error`` is its largest distance from the
    real value, in LSB: ``1/2 + (count + 1) × 2⁻²⁴ / output scale``. The 1/2 is the last rounding; the sum
    is at least ``2²³``, and each of its terms and the numerator are off by up to 1/2. No intermediate
    number exceeds ``bound``.
    """

    MOST = 65_536
    table: Tensor

    def __init__(self, numbers: Numbers, out: Numbers, dim: int, count: int) -> None:
        super().__init__()
        distances = torch.arange(numbers.high - numbers.low + 1).double()
        self.register_buffer(
            "table", torch.round(2**_EXP_BITS * torch.exp(-distances * numbers.scale)).to(torch.int32)
        )
        # 1 / scale is a whole number for the usual 1/256; other scales get 16 fractional bits
        exact = (1.0 / out.scale).is_integer()
        self.places = 0 if exact else 16
        self.factor = round(2**self.places / out.scale)
        self.out, self.dim = out, dim
        most_sum = count << (_EXP_BITS + self.places)
        self.bound = max((self.factor << (_EXP_BITS + 1)) + most_sum, 2 * most_sum)
        self.error = 0.5 + (count + 1) * 2.0 ** -(_EXP_BITS + 1) / out.scale

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.int64)
        e = self.table.to(torch.int64)[wide.amax(self.dim, True) - wide]
        total = e.sum(self.dim, True) * 2**self.places
        values = (
            torch.div(2 * e * self.factor + total, 2 * total, rounding_mode="floor") + self.out.zero_point
        )
        return values.clamp(self.out.low, self.out.high).to(self.out.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, output scale={self.out.scale:.6g}, at most {self.error:.3g} LSB off"


class LayerNorm(IntegerOperator):
    """``layer_norm`` over the last ``N`` numbers.

    With ``D = N x - Σ x`` and ``V = N Σ x² - (Σ x)²``, which are exact and independent of the zero point,
    the result is ``D / √(V + N² eps / scale²)`` times the weight, plus the bias. The radicand has as many
    fractional bits as fit in 62 bits, the root 31 bits; the quotient has 16 fractional bits, the weight 15
    and the bias 31.

    ``error`` is the largest distance of a result from the real value in LSB, for the largest weight ``w``
    in LSB: ``1/2 + w (2⁻¹⁷ + √(N-1) (2⁻³⁰ + ε)) + 2⁻¹⁶ √(N-1) + 2⁻³²``. Quotients lie within ``±√(N-1)``;
    their root is off by one part in ``2³⁰``, and ``ε = 2^(-2 places) / (4 (N-1))`` accounts for the rounding
    of ``eps``, as ``V`` is 0 or at least ``N - 1``. ``bounds`` are the largest intermediate numbers.
    """

    weight: Tensor
    bias: Tensor

    _QUOTIENT, _WEIGHT = 16, 15

    def __init__(
        self,
        numbers: Numbers,
        out: Numbers,
        *,
        count: int,
        rank: int,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> None:
        super().__init__()
        self.count, self.rank, self.out = count, rank, out
        width = numbers.high - numbers.low
        largest = (count * width) ** 2 // 4 + 1
        smallness = count**2 * eps / numbers.scale**2
        # the radicand stays below 2^62
        self.places = max(0, (61 - math.ceil(largest + smallness).bit_length()) // 2)
        self.epsilon = round(smallness * 4**self.places)
        shift = self._QUOTIENT + self._WEIGHT
        steps = weight.double() / out.scale
        self.register_buffer("weight", torch.round(steps * 2**self._WEIGHT).to(torch.int64))
        self.register_buffer("bias", torch.round(bias.double() / out.scale * 2**shift).to(torch.int64))
        reach = math.sqrt(max(count - 1, 1))
        quotient = math.ceil(reach * 2**self._QUOTIENT) + 1
        self.bounds = [
            (largest << 2 * self.places) + self.epsilon,
            math.ceil(reach * 2 ** (self._QUOTIENT + 33)),
            quotient * int(self.weight.abs().max()) + int(self.bias.abs().max()) + 2**shift,
        ]
        rounded = 0.25 / (max(count - 1, 1) * 4.0**self.places)
        self.error = (
            0.5 + float(steps.abs().max()) * (2.0**-17 + reach * (2.0**-30 + rounded))
            + reach * 2.0**-16 + 2.0**-32
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        dims = list(range(-self.rank, 0))
        wide = x.to(torch.int64)
        total = wide.sum(dims, True)
        spread = (wide * wide).sum(dims, True) * self.count - total * total
        root, places = integer_root(spread * 4**self.places + self.epsilon)
        centred = (wide * self.count - total) * (places * 2 ** (self.places + self._QUOTIENT))
        quotient = torch.div(2 * centred + root, 2 * root, rounding_mode="floor")
        shift = self._QUOTIENT + self._WEIGHT
        values = torch.bitwise_right_shift(quotient * self.weight + self.bias + 2 ** (shift - 1), shift)
        return (values + self.out.zero_point).clamp(self.out.low, self.out.high).to(self.out.dtype)

    def extra_repr(self) -> str:
        return (
            f"over {self.count} numbers, output scale={self.out.scale:.6g}, at most {self.error:.3g} LSB off"
        )


def integer_root(n: Tensor) -> tuple[Tensor, Tensor]:
    """``⌊√(n p²)⌋`` and ``p``, the power of two that gives the root 31 bits, of int64 numbers below ``2^62``.

    Newton's iteration with integer operators from ``2^31``, above the root; it decreases until it reaches
    the root (Zimmermann, "Karatsuba Square Root", 1999, section 1). Six steps suffice from a start within a
    factor of two. The root of 0 is ``2^30``, so that it can be divided by.
    """
    halves = sum((n >= 4**power).to(torch.int64) for power in range(1, 31))
    places = powers_of_two(30 - halves)
    scaled = (n * places * places).clamp(min=2**60)
    root = torch.full_like(n, 2**31)
    for _ in range(6):
        root = torch.bitwise_right_shift(root + torch.div(scaled, root, rounding_mode="floor"), 1)
    # the result is too large by one at most
    return root - (root * root > scaled).to(torch.int64), places
