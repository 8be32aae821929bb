"""How large an accumulator can become, proved from the weights and the ranges of the inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from quanthost.errors import ConversionError

__all__ = ["accumulator_bound", "check_width", "exact_dtype"]

_SHOWN = 8


def accumulator_bound(weight: Tensor, low: int, high: int, zero_point: int, bias: Tensor | None) -> Tensor:
    """The largest magnitude of any partial sum of ``Σ w (x - zero_point) + bias``, int64 ``[C]``.

    ``weight`` is an integer tensor ``[C, K]``, ``x`` lies between ``low`` and ``high``, ``bias`` is
    ``[C]``. It is ``Σ |w| × max |x - zero_point| + |bias|``: in whatever order the terms are added, no
    sum exceeds it.
    """
    reach = max(high - zero_point, zero_point - low)
    bound = weight.to(torch.int64).abs().sum(1) * reach
    return bound if bias is None else bound + bias.to(torch.int64).abs()


def exact_dtype(bound: int) -> torch.dtype:
    """The fastest dtype that sums up to ``bound`` without rounding: a float with enough bits, else int64."""
    if bound <= 2**24:
        return torch.float32
    return torch.float64 if bound <= 2**53 else torch.int64


def check_width(bounds: Tensor, bits: int, *, operator: str) -> None:
    """Refuse magnitudes that a signed register of ``bits`` bits does not hold.

    Raises:
        ConversionError: names the operator, the bound and the channels.
    """
    most = 2 ** (bits - 1) - 1
    over = (bounds > most).nonzero().reshape(-1).tolist()
    if not over:
        return
    largest = int(bounds.max())
    names = ", ".join(map(str, over[:_SHOWN])) + (" and more" if len(over) > _SHOWN else "")
    raise ConversionError(
        f"{operator} can reach {largest} in {len(over)} of {len(bounds)} channels ({names})",
        needed=f"at most {most}, what {bits} bits with a sign hold", stage="convert", node=operator,
        value=largest,
        remedy="keep this operator float by an override, narrow the range of its input or weights, or choose"
        " a profile with wider accumulators",
    )  # fmt: skip
