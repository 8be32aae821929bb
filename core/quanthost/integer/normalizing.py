"""Softmax and layer norm from integers alone, with an error that is stated."""

from __future__ import annotations

import torch
from torch import Tensor

from quanthost.integer.numbers import Numbers
from quanthost.integer.operators import IntegerOperator

__all__ = ["LayerNorm", "Softmax", "integer_root"]

_EXP_BITS = 23


class Softmax(IntegerOperator):
    """``softmax`` over one dimension of at most 65,536 numbers.

    ``exp`` is a table of ``round(2²³ exp(-d × scale))`` for each distance ``d`` from the maximum; the
    result is ``e × (1 / output scale) / Σ e``, rounded half up. With ``N`` numbers it lies at most ``1/2
    + (N + 1) × 2⁻²⁴ / output scale`` steps of the output from the real value.
    """

    table: Tensor

    def __init__(self, numbers: Numbers, out: Numbers, dim: int) -> None:
        super().__init__()
        distances = torch.arange(numbers.high - numbers.low + 1).double()
        self.register_buffer(
            "table", torch.round(2**_EXP_BITS * torch.exp(-distances * numbers.scale)).to(torch.int32)
        )
        # 1 / scale is a whole number for the usual 1/256; other scales get 16 bits behind the point
        exact = (1.0 / out.scale).is_integer()
        self.places = 0 if exact else 16
        self.factor = round(2**self.places / out.scale)
        self.out, self.dim = out, dim

    def forward(self, x: Tensor) -> Tensor:
        moved = x.to(torch.int64)
        e = self.table.to(torch.int64)[moved.amax(self.dim, True) - moved]
        total = e.sum(self.dim, True) * 2**self.places
        values = (
            torch.div(2 * e * self.factor + total, 2 * total, rounding_mode="floor") + self.out.zero_point
        )
        return values.clamp(self.out.low, self.out.high).to(self.out.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, output scale={self.out.scale:.6g}"


class LayerNorm(IntegerOperator):
    """``layer_norm`` over the last ``N`` numbers.

    With ``D = N x - Σ x`` and ``V = N Σ x² - (Σ x)²``, which are exact and know no zero point, the result is
    ``D / √(V + N² eps / scale²)`` times the weight. The root has at least 20 bits, the quotient 16 behind the
    point, the weight 15; ``error`` is the largest error in steps of the output, beside the rounding.
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
        self.epsilon = round(count**2 * eps / numbers.scale**2)
        # places of the root, so that the radicand stays below 2^62
        self.places = max(0, (62 - (largest + self.epsilon).bit_length()) // 2)
        shift = self._QUOTIENT + self._WEIGHT
        self.register_buffer(
            "weight", torch.round(weight.double() / out.scale * 2**self._WEIGHT).to(torch.int64)
        )
        self.register_buffer("bias", torch.round(bias.double() / out.scale * 2**shift).to(torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        dims = list(range(-self.rank, 0))
        moved = x.to(torch.int64)
        total = moved.sum(dims, True)
        spread = (moved * moved).sum(dims, True) * self.count - total * total + self.epsilon
        root = integer_root(spread * 4**self.places).clamp(min=1)
        centred = (moved * self.count - total) * 2 ** (self.places + self._QUOTIENT)
        quotient = torch.div(2 * centred + root, 2 * root, rounding_mode="floor")
        shift = self._QUOTIENT + self._WEIGHT
        values = torch.bitwise_right_shift(quotient * self.weight + self.bias + 2 ** (shift - 1), shift)
        return (values + self.out.zero_point).clamp(self.out.low, self.out.high).to(self.out.dtype)

    def extra_repr(self) -> str:
        return f"over {self.count} numbers, output scale={self.out.scale:.6g}"


def integer_root(n: Tensor, bits: int = 62) -> Tensor:
    """``⌊√n⌋`` of int64 numbers below ``2^bits``, from integer operators.

    Newton's iteration from the power of two at or above the root; it falls until it reaches the root
    (Zimmermann, "Karatsuba Square Root", 1999, section 1), and six steps suffice from a start within a
    factor of two.
    """
    halves = (bits + 1) // 2
    count = torch.zeros_like(n)
    for power in range(halves):
        count = count + (n >= 4**power).to(torch.int64)
    powers = torch.tensor([2**power for power in range(halves + 1)], dtype=torch.int64)
    root = powers[count]
    for _ in range(6):
        root = torch.bitwise_right_shift(root + torch.div(n, root, rounding_mode="floor"), 1).clamp(min=1)
    # what is left is one too many at most
    return root - (root * root > n).to(torch.int64)
