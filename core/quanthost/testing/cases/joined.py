"""One sample behind another: the second reads the first one's result, where their shapes go together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from quanthost.graph.table import Row
from quanthost.testing.cases.samples import Sample, reshaped
from quanthost.values import Role

__all__ = ["joined", "usable"]


class _Behind(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The second module reads the first one's result in place of its own first input."""

    def __init__(self, first: nn.Module, second: nn.Module, count: int) -> None:
        super().__init__()
        self.first, self.second, self.count = first, second, count

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.second(self.first(*inputs[: self.count]), *inputs[self.count :])
        return made


def usable(row: Row, samples: Sequence[Sample]) -> list[Sample]:
    """Those that read an activation first, and only tensors of float32 with elements."""
    return [sample for sample in samples if _is_plain(sample)] if _first_is_data(row) else []


def _first_is_data(row: Row) -> bool:
    captures = row.pattern.captures()
    return bool(captures) and row.role(captures[0]) in (Role.ACTIVATION, Role.WEIGHT, Role.BIAS)


def _is_plain(sample: Sample) -> bool:
    plain = not sample.is_dynamic and not sample.variation.endswith("read_twice")
    return (
        plain
        and bool(sample.inputs)
        and all(x.dtype is torch.float32 and x.numel() > 0 for x in sample.inputs)
    )


def joined(firsts: list[Sample], seconds: list[Sample]) -> Sample | None:
    """The first two that go together: the result has the shape that the second's example has."""
    wanted = tuple(seconds[0].inputs[0].shape)
    for first in (*firsts, *filter(None, [reshaped(firsts[0], wanted)])):
        with torch.no_grad():
            made = first.module(*first.inputs)
        if not isinstance(made, torch.Tensor) or not made.is_floating_point():
            continue
        shape = tuple(made.shape)
        fitted = (s if s.inputs[0].shape == made.shape else reshaped(s, shape) for s in seconds)
        second = next((s for s in fitted if s is not None and _fits(s, made)), None)
        if second is None or not bool(torch.isfinite(made).all()):
            continue
        return Sample(
            name="", module=_Behind(first.module, second.module, len(first.inputs)),
            inputs=(*first.inputs, *second.inputs[1:]),
        )  # fmt: skip
    return None


def _fits(second: Sample, made: torch.Tensor) -> bool:
    """Whether the values are some that the second is made for: no logarithm of what is negative."""
    if made.numel() and float(made.min()) < 0 <= float(second.inputs[0].min()):
        return False
    try:
        with torch.no_grad():
            result = second.module(made, *second.inputs[1:])
    except RuntimeError:
        return False  # weights of another type, say
    if not isinstance(result, torch.Tensor):
        return False
    return bool(torch.isfinite(result).all()) and (not result.numel() or float(result.abs().max()) < 1e4)
