"""``ChannelRange``: the exact range of each channel; and merging of any range statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from quanthost.arith.sketch import HUGE, Layout, RangeSketch, as_float_tensor, check_layout
from quanthost.errors import ValueCheckError

__all__ = ["ChannelRange", "RangeStatistics", "merge_ranges"]

_LAYOUT: Layout = {
    "minimum": (torch.float64, None), "maximum": (torch.float64, None), "excluded": (torch.int64, 1)
}  # fmt: skip


@attrs.define(eq=False)
class ChannelRange:
    """The least and greatest ordinary value of each channel: a commutative monoid under ``merge``.

    ``minimum`` and ``maximum`` are float64 ``[C]`` and exact. They are empty before the first tensor, and
    ``inf`` and ``-inf`` for a channel without an ordinary value (finite, below ``HUGE`` in magnitude).
    ``excluded`` is the number of other values.
    """

    axis: int
    minimum: Tensor = attrs.field(factory=lambda: torch.zeros(0, dtype=torch.float64))
    maximum: Tensor = attrs.field(factory=lambda: torch.zeros(0, dtype=torch.float64))
    excluded: int = 0

    def update(self, tensor: Tensor) -> None:
        """Add the values of a float tensor of any shape that has the axis; the tensor is not stored."""
        if not 0 <= self.axis < tensor.ndim:
            raise ValueCheckError(
                f"a tensor of shape {list(tensor.shape)}", needed=f"an axis {self.axis}",
                where="ChannelRange.update", remedy="give the axis of the channels, from 0", value=tensor,
            )  # fmt: skip
        # the added axis makes sure that there is one to reduce: amin over no axis would reduce all
        values = as_float_tensor(tensor).unsqueeze(-1)
        if values.numel() == 0:
            return
        others = [axis for axis in range(values.ndim) if axis != self.axis]
        low, high = values.amin(others), values.amax(others)
        if not bool(((low > -HUGE) & (high < HUGE)).all()):
            ordinary = values.abs() < HUGE
            self.excluded += int(ordinary.numel() - ordinary.sum())
            low = torch.where(ordinary, values, math.inf).amin(others)
            high = torch.where(ordinary, values, -math.inf).amax(others)
        self._widen(low.to(torch.float64) + 0.0, high.to(torch.float64) + 0.0)

    def merge(self, other: ChannelRange) -> ChannelRange:
        """The ranges of both streams; does not change the operands."""
        if self.axis != other.axis:
            raise ValueCheckError(
                f"ranges along axis {self.axis} and axis {other.axis}", needed="one axis",
                where="ChannelRange.merge", remedy="merge statistics of one tensor only",
            )  # fmt: skip
        merged = attrs.evolve(self, excluded=self.excluded + other.excluded)
        if other.minimum.numel():
            merged._widen(other.minimum, other.maximum)
        return merged

    def state(self) -> dict[str, Tensor]:
        """What a file stores besides the axis: ``minimum``, ``maximum``, and ``excluded`` ``[1]``."""
        excluded = torch.tensor([self.excluded], dtype=torch.int64)
        return {"minimum": self.minimum.clone(), "maximum": self.maximum.clone(), "excluded": excluded}

    @classmethod
    def from_state(cls, axis: int, state: Mapping[str, Tensor]) -> ChannelRange:
        """The inverse of ``state``; raises ``ValueCheckError`` if the tensors contradict each other."""
        check_layout(state, _LAYOUT, where="ChannelRange.from_state")
        minimum, maximum = state["minimum"].clone(), state["maximum"].clone()
        # a channel without an ordinary value has inf and -inf
        fits = minimum.shape == maximum.shape and bool(((minimum <= maximum) | minimum.isposinf()).all())
        if not fits:
            raise ValueCheckError(
                f"{len(minimum)} minima and {len(maximum)} maxima that do not form ranges",
                where="ChannelRange.from_state",
                needed="one of each per channel, in order", remedy="pass what ChannelRange.state returned",
            )  # fmt: skip
        return cls(axis, minimum, maximum, int(state["excluded"]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelRange):
            return NotImplemented
        same = torch.equal(self.minimum, other.minimum) and torch.equal(self.maximum, other.maximum)
        return same and (self.axis, self.excluded) == (other.axis, other.excluded)

    def _widen(self, low: Tensor, high: Tensor) -> None:
        if self.minimum.numel() == 0:
            self.minimum, self.maximum = low, high
            return
        if low.shape != self.minimum.shape:
            raise ValueCheckError(
                f"{len(low)} channels after {len(self.minimum)}", needed="the same number of channels",
                where=f"ChannelRange, axis {self.axis}", remedy="give an axis whose size never changes",
            )  # fmt: skip
        self.minimum, self.maximum = torch.minimum(self.minimum, low), torch.maximum(self.maximum, high)


RangeStatistics: TypeAlias = RangeSketch | ChannelRange
"""The statistics of one tensor, or of several tensors that share a range."""


def merge_ranges(one: RangeStatistics, other: RangeStatistics) -> RangeStatistics:
    """The statistics of both streams; does not change the operands.

    Raises:
        ValueCheckError: the axes differ, or only one has channels.
    """
    if isinstance(one, RangeSketch) and isinstance(other, RangeSketch):
        return one.merge(other)
    if isinstance(one, ChannelRange) and isinstance(other, ChannelRange):
        return one.merge(other)
    raise ValueCheckError(
        f"a {type(one).__name__} and a {type(other).__name__}", needed="statistics of one kind",
        where="merge_ranges", remedy="merge statistics of one tensor only", value=(one, other),
    )  # fmt: skip
