"""Bounds on accumulators, computed from the weights and the ranges of the inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from quanthost.errors import ConversionError

__all__ = ["accumulator_bound", "check_width", "exact_dtype"]

_SHOWN = 8


def accumulator_bound(weight: Tensor, low: int, high: int, zero_point: int, bias: Tensor | None) -> Tensor:
    """The largest magnitude of any partial sum of ``Σ w (x - zero_point) + bias``, int64 ``[C]``.

    ``weight`` is an integer tensor ``[C, K]``, ``x`` is between ``low`` and ``high``, ``bias`` is
    ``[C]``. The bound is ``Σ |w| × max |x - zero_point| + |bias|``, for any order of the additions.
    """
    reach = max(high - zero_point, zero_point - low)
    bound = weight.to(torch.int64).abs().sum(1) * reach
    return bound if bias is None else bound + bias.to(torch.int64).abs()


def exact_dtype(bound: int) -> torch.dtype:
    """The fastest dtype that holds sums up to ``bound`` exactly: float32, float64 or int64."""
    if bound <= 2**24:
        return torch.float32
    return torch.float64 if bound <= 2**53 else torch.int64


def check_width(bounds: Tensor, bits: int, *, operator: str) -> None:
    """Check that magnitudes fit in a signed register of ``bits`` bits.

    Raises:
        ConversionError: they do not; the error has the operator, the bound and the channels.
    """
    most = 2 ** (bits - 1) - 1
    channels = (bounds > most).nonzero().reshape(-1).tolist()
    if not channels:
        return
    largest = int(bounds.max())
    names = ", ".join(map(str, channels[:_SHOWN])) + (" and more" if len(channels) > _SHOWN else "")
    raise ConversionError(
        f"{operator} can reach {largest} in {len(channels)} of {len(bounds)} channels ({names})",
        needed=f"at most {most}, the maximum of {bits} bits with sign", stage="convert", node=operator,
        value=largest,
        remedy="keep this operator in float by an override, narrow the range of its input or weights, or"
        " choose a profile with wider accumulators",
    )  # fmt: skip
