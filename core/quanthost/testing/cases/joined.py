"""Joins two samples: the second reads the result of the first, if their shapes fit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from quanthost.graph.table import Row
from quanthost.testing.cases.samples import Sample, reshape_sample
from quanthost.values import Role

__all__ = ["filter_joinable", "join_samples"]

# a second module whose result is larger than this was not built for such inputs
_LARGEST_RESULT = 1e4


class _Sequence(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The second module reads the result of the first in place of its own first input."""

    def __init__(self, first: nn.Module, second: nn.Module, count: int) -> None:
        super().__init__()
        self.first, self.second, self.count = first, second, count

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(*inputs[: self.count]), *inputs[self.count :])
        return result


def filter_joinable(row: Row, samples: Sequence[Sample]) -> list[Sample]:
    """The samples that read an activation first, and only non-empty tensors of float32."""
    return [sample for sample in samples if _is_joinable(sample)] if _reads_data_first(row) else []


def _reads_data_first(row: Row) -> bool:
    captures = row.pattern.captures()
    return bool(captures) and row.role(captures[0]) in (Role.ACTIVATION, Role.WEIGHT, Role.BIAS)


def _is_joinable(sample: Sample) -> bool:
    if sample.is_dynamic or sample.variation.endswith("read_twice") or not sample.inputs:
        return False
    return all(x.dtype is torch.float32 and x.numel() > 0 for x in sample.inputs)


def join_samples(firsts: list[Sample], seconds: list[Sample]) -> Sample | None:
    """The first pair that fits: the result of one has the shape that the other reads.

    A sample is reshaped where its operator takes any shape. ``None`` if no pair fits.
    """
    wanted_shape = tuple(seconds[0].inputs[0].shape)
    for first in (*firsts, *filter(None, [reshape_sample(firsts[0], wanted_shape)])):
        with torch.no_grad():
            result = first.module(*first.inputs)
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            continue
        shape = tuple(result.shape)
        candidates = (s if s.inputs[0].shape == result.shape else reshape_sample(s, shape) for s in seconds)
        second = next((s for s in candidates if s is not None and _accepts(s, result)), None)
        if second is None or not bool(torch.isfinite(result).all()):
            continue
        return Sample(
            name="", module=_Sequence(first.module, second.module, len(first.inputs)),
            inputs=(*first.inputs, *second.inputs[1:]),
        )  # fmt: skip
    return None


def _accepts(second: Sample, values: torch.Tensor) -> bool:
    """Whether the second module is defined for these values: no logarithm of a negative number."""
    if values.numel() and float(values.min()) < 0 <= float(second.inputs[0].min()):
        return False
    try:
        with torch.no_grad():
            result = second.module(values, *second.inputs[1:])
    except RuntimeError:
        return False  # weights of another type, say
    if not isinstance(result, torch.Tensor) or not bool(torch.isfinite(result).all()):
        return False
    return not result.numel() or float(result.abs().max()) < _LARGEST_RESULT
