"""Range statistics of a tensor stream, exact under every order, split and merge of the data."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TypeAlias

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quanthost.errors import ValueCheckError

__all__ = ["HUGE", "MAX_BINS", "SAMPLED", "ChannelRange", "Measured", "RangeSketch", "merged"]

HUGE = 1e30
"""Magnitude from which a finite value counts as a sentinel (attention masks add -1e30 and beyond)."""

MAX_BINS = 2048
"""Most bins a histogram has: 16 KiB of int64."""

SAMPLED = 1 << 14
"""About so many values of a large tensor are counted, at a density of 1."""

# Below this width a float32 could not be divided by it without overflow.
_LEAST_EXPONENT = -126
_BIN_BITS = MAX_BINS.bit_length() - 1
# Up to so many values all are binned; of more, so many of their roots, at most SAMPLED.
_ALL, _ROOTS = 1 << 13, 48


@attrs.frozen
class _Grid:
    """Bins of width ``2**exponent``; bin ``i`` is ``[i × width, (i + 1) × width)``, from ``first`` on."""

    exponent: int
    first: int
    size: int

    @classmethod
    def spanning(cls, low: float, high: float) -> _Grid:
        """The finest grid whose bins from 0 to both bounds are at most ``MAX_BINS``.

        A function of the bounds alone, so that data gives one grid however it was split; the width
        never shrinks when the bounds grow, so that every earlier grid coarsens into it.
        """
        largest = max(high, -low)
        exponent = _LEAST_EXPONENT
        if largest > 0.0:
            exponent = max(math.frexp(largest)[1] - _BIN_BITS, _LEAST_EXPONENT)
        below, above = min(low, 0.0), max(high, 0.0)
        if _bin(above, exponent) - _bin(below, exponent) >= MAX_BINS:
            exponent += 1
        first = _bin(low, exponent)
        return cls(exponent, first, _bin(high, exponent) - first + 1)


def _bin(value: float, exponent: int) -> int:
    index = math.floor(math.ldexp(value, -exponent))
    # A tiny negative value may underflow to zero, which would move it across the edge at 0.
    return min(index, -1) if value < 0.0 else index


@attrs.define(eq=False)
class RangeSketch:
    """What calibration keeps of the values of one tensor: a commutative monoid under ``merge``.

    ``minimum`` and ``maximum`` are exact and cover the *ordinary* values: finite and below ``HUGE`` in
    magnitude; without any they are ``inf`` and ``-inf``. ``histogram`` (int64) counts the ordinary
    values in bins of width ``bin_width``, a power of two; bin 0 of the grid starts at 0, the first
    element of ``histogram`` is the bin of ``minimum``, the last that of ``maximum``. The other values
    are only counted: ``nan``, ``positive_infinity``, ``negative_infinity``, ``huge``. ``count`` is the
    number of all.

    Widths are powers of two, hence ``x / width`` is exact in binary floating point and doubling the
    width maps bin ``i`` to ``floor(i / 2)``: the state is bit for bit the same for each order and merge of
    the tensors that it was given, and for tensors of up to 8,192 values also for each split of them. Of a
    larger tensor the histogram counts a systematic sample, chosen by its size, extremes and a density: every
    ``k``-th value in the order of memory counts ``k`` times, and the extremes count once. Where it starts
    differs between tensors, so that a stream of them is seen at all places.
    """

    minimum: float = math.inf
    maximum: float = -math.inf
    histogram: Tensor = attrs.field(factory=lambda: torch.zeros(0, dtype=torch.int64))
    count: int = 0
    nan: int = 0
    positive_infinity: int = 0
    negative_infinity: int = 0
    huge: int = 0
    _spanned: tuple[float, float, _Grid] | None = attrs.field(default=None, init=False, repr=False)

    @property
    def ordinary(self) -> int:
        """Number of values that are finite and not huge."""
        return self.count - self.nan - self.positive_infinity - self.negative_infinity - self.huge

    @property
    def bin_width(self) -> float:
        """Width of each bin, in the unit of the data; of no meaning while ``ordinary`` is 0."""
        return math.ldexp(1.0, self._grid.exponent) if self.ordinary else 0.0

    def edges(self) -> Tensor:
        """The ``len(histogram) + 1`` edges of the bins, ascending, float64."""
        if not self.ordinary:
            return torch.zeros(1, dtype=torch.float64)
        grid = self._grid
        return torch.arange(grid.first, grid.first + grid.size + 1, dtype=torch.float64) * self.bin_width

    def update(self, tensor: Tensor, density: float = 1.0) -> None:
        """Take in a tensor of any float dtype, shape and layout; nothing of it is kept.

        ``density``, from 1 on, is how many times as many values of a large tensor are counted.
        """
        values = _dense(tensor)
        total = values.numel()
        self.count += total
        if total == 0:
            return
        low, high = _bounds(values)
        # Written so that NaN fails it too: one reduction decides whether any scan is needed.
        if not (low > -HUGE and high < HUGE):
            values = self._set_aside(values, low, high)
            total = values.numel()
            if total == 0:
                return
            low, high = _bounds(values)
        if not self.minimum <= low <= high <= self.maximum:
            self._widen(low, high)
        # numpy takes a third of torch's time for an operator on few values, whatever the number of threads
        counts, array = self.histogram.numpy(), values.numpy().reshape(-1)
        if total <= _ALL:
            counts += np.bincount(_bins(array, self._grid), minlength=len(counts))
        else:
            _count_some_into(counts, array, self._grid, (low, high), density)

    def merge(self, other: RangeSketch) -> RangeSketch:
        """The sketch of both streams; neither operand changes."""
        merged = attrs.evolve(self, histogram=self.histogram.clone())
        merged.count += other.count
        merged.nan += other.nan
        merged.positive_infinity += other.positive_infinity
        merged.negative_infinity += other.negative_infinity
        merged.huge += other.huge
        if other.histogram.numel():
            merged._widen(other.minimum, other.maximum)
            merged.histogram += _regridded(other.histogram, other._grid, merged._grid)
        return merged

    def state(self) -> dict[str, Tensor]:
        """The whole sketch as tensors: ``range`` float64 [2], ``tally`` int64 [5], ``histogram`` int64."""
        tally = (self.count, self.nan, self.positive_infinity, self.negative_infinity, self.huge)
        return {
            "range": torch.tensor((self.minimum, self.maximum), dtype=torch.float64),
            "tally": torch.tensor(tally, dtype=torch.int64),
            "histogram": self.histogram.clone(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> RangeSketch:
        """The inverse of ``state``; a ``ValueCheckError`` says what contradicts itself."""
        _check_layout(state, _LAYOUT, where="RangeSketch.from_state")
        minimum, maximum = state["range"].tolist()
        sketch = cls(minimum, maximum, state["histogram"].clone(), *state["tally"].tolist())
        _check_sums(sketch)
        return sketch

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSketch):
            return NotImplemented
        mine, theirs = self.state(), other.state()
        return all(torch.equal(mine[key], theirs[key]) for key in mine)

    @property
    def _grid(self) -> _Grid:
        held = self._spanned
        if held is None or held[0] != self.minimum or held[1] != self.maximum:
            held = self._spanned = (self.minimum, self.maximum, _Grid.spanning(self.minimum, self.maximum))
        return held[2]

    def _set_aside(self, values: Tensor, low: float, high: float) -> Tensor:
        """Count what is not ordinary, and return the rest; the bounds say which scans can be skipped."""
        broken = math.isnan(low)
        nan = int(values.isnan().sum()) if broken else 0
        above = int((values == math.inf).sum()) if broken or high == math.inf else 0
        below = int((values == -math.inf).sum()) if broken or low == -math.inf else 0
        kept = values[values.abs() < HUGE]
        self.nan += nan
        self.positive_infinity += above
        self.negative_infinity += below
        self.huge += values.numel() - kept.numel() - nan - above - below
        return kept

    def _widen(self, low: float, high: float) -> None:
        if self.histogram.numel() == 0:
            self.minimum, self.maximum = low, high
            self.histogram = torch.zeros(self._grid.size, dtype=torch.int64)
            return
        if self.minimum <= low and high <= self.maximum:
            return
        before = self._grid
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.histogram = _regridded(self.histogram, before, self._grid)


@attrs.define(eq=False)
class ChannelRange:
    """Least and greatest ordinary value of each channel: a commutative monoid under ``merge``.

    ``minimum`` and ``maximum`` are float64 ``[C]``, exact; they have no elements before the first
    tensor, and ``inf``, ``-inf`` for a channel without an ordinary value (finite, below ``HUGE`` in
    magnitude). ``excluded`` is the number of the other values.
    """

    axis: int
    minimum: Tensor = attrs.field(factory=lambda: torch.zeros(0, dtype=torch.float64))
    maximum: Tensor = attrs.field(factory=lambda: torch.zeros(0, dtype=torch.float64))
    excluded: int = 0

    def update(self, tensor: Tensor) -> None:
        """Take in a float tensor of any shape that has the axis; nothing of it is kept."""
        if not 0 <= self.axis < tensor.ndim:
            raise ValueCheckError(
                f"a tensor of shape {list(tensor.shape)}", needed=f"an axis {self.axis}",
                where="ChannelRange.update", remedy="give the axis of the channels, from 0", value=tensor,
            )  # fmt: skip
        # With the added axis there is always one to reduce; amin over none would reduce all.
        values = _float(tensor).unsqueeze(-1)
        if values.numel() == 0:
            return
        others = [axis for axis in range(values.ndim) if axis != self.axis]
        low, high = values.amin(others), values.amax(others)
        if not bool(((low > -HUGE) & (high < HUGE)).all()):
            kept = values.abs() < HUGE
            self.excluded += int(kept.numel() - kept.sum())
            low = torch.where(kept, values, math.inf).amin(others)
            high = torch.where(kept, values, -math.inf).amax(others)
        self._widen(low.to(torch.float64) + 0.0, high.to(torch.float64) + 0.0)

    def merge(self, other: ChannelRange) -> ChannelRange:
        """The ranges of both streams; neither operand changes."""
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
        """What a file has to keep beside the axis: ``minimum`` and ``maximum``, and ``excluded`` ``[1]``."""
        excluded = torch.tensor([self.excluded], dtype=torch.int64)
        return {"minimum": self.minimum.clone(), "maximum": self.maximum.clone(), "excluded": excluded}

    @classmethod
    def from_state(cls, axis: int, state: Mapping[str, Tensor]) -> ChannelRange:
        """The inverse of ``state``; a ``ValueCheckError`` says what contradicts itself."""
        _check_layout(state, _CHANNEL_LAYOUT, where="ChannelRange.from_state")
        minimum, maximum = state["minimum"].clone(), state["maximum"].clone()
        # a channel without an ordinary value has inf and -inf
        fits = minimum.shape == maximum.shape and bool(((minimum <= maximum) | minimum.isposinf()).all())
        if not fits:
            raise ValueCheckError(
                f"{len(minimum)} minima and {len(maximum)} maxima that are no ranges",
                where="ChannelRange.from_state",
                needed="one of each for a channel, in order", remedy="pass what ChannelRange.state returned",
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
                f"{len(low)} channels after {len(self.minimum)}", needed="one number of channels",
                where=f"ChannelRange, axis {self.axis}", remedy="give the axis whose size never changes",
            )  # fmt: skip
        self.minimum, self.maximum = torch.minimum(self.minimum, low), torch.maximum(self.maximum, high)


Measured: TypeAlias = RangeSketch | ChannelRange
"""What is kept of one tensor, or of several that share a range."""


def merged(one: Measured, other: Measured) -> Measured:
    """The statistics of both streams; neither operand changes.

    Raises:
        ValueCheckError: they are of different axes, or one is of channels and the other is not.
    """
    if isinstance(one, RangeSketch) and isinstance(other, RangeSketch):
        return one.merge(other)
    if isinstance(one, ChannelRange) and isinstance(other, ChannelRange):
        return one.merge(other)
    raise ValueCheckError(
        f"a {type(one).__name__} and a {type(other).__name__}", needed="statistics of one kind",
        where="merged", remedy="merge statistics of one tensor only", value=(one, other),
    )  # fmt: skip


def _float(tensor: Tensor) -> Tensor:
    if tensor.dtype not in (torch.float32, torch.float64):
        if not tensor.is_floating_point():
            raise ValueCheckError(
                f"a tensor of {tensor.dtype}", needed="a float tensor", where="range statistics",
                remedy="observe float tensors only; integers and booleans are never quantized", value=tensor,
            )  # fmt: skip
        tensor = tensor.to(torch.float32)
    return tensor.detach() if tensor.requires_grad else tensor


def _dense(tensor: Tensor) -> Tensor:
    """All elements, float32 or float64, in the order of memory; no copy where the memory is dense."""
    values = _float(tensor)
    if values.is_contiguous():
        return values
    # The order of elements does not matter, that of memory is the fast one.
    order = sorted(range(values.ndim), key=values.stride, reverse=True)
    return values.permute(order).contiguous()


def _bounds(values: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(values)
    # -0.0 + 0.0 is 0.0: which zero a reduction returns depends on the order.
    return low.item() + 0.0, high.item() + 0.0


def _count_some_into(
    counts: NDArray[np.int64],
    values: NDArray[np.floating],
    grid: _Grid,
    extremes: tuple[float, float],
    density: float,
) -> None:
    """Add counts whose sum is the number of values."""
    total, (low, high) = len(values), extremes
    step = _step(total, density)
    # the last bits of the extremes are as good as drawn, and the same in each order of the tensors
    start = int(math.ldexp(math.frexp(low)[0] + math.frexp(high)[0], 24)) % step
    index = _bins(values[start : (total - 2) // step * step : step], grid)
    counts += np.bincount(index, minlength=len(counts)) * step
    # what is left over: the extremes, and a few beside the last
    counts[_bin(low, grid.exponent) - grid.first] += 1
    counts[_bin(high, grid.exponent) - grid.first] += 1
    counts[index[-1]] += total - 2 - len(index) * step


@functools.lru_cache(maxsize=4096)
def _step(total: int, density: float) -> int:
    """Prime to the size, so that it meets all columns of an image and all channels alike."""
    step = max(math.isqrt(total) // int(density * _ROOTS), total // int(density * SAMPLED)) | 1
    while math.gcd(step, total) > 1:
        step += 2
    return step


def _bins(values: NDArray[np.floating], grid: _Grid) -> NDArray[np.int16]:
    """The bin of each value, the first bin of the grid being 0."""
    scaled = values * math.ldexp(1.0, -grid.exponent)
    if grid.first:
        np.floor(scaled, out=scaled)
        if grid.exponent > 0:
            # The product of a tiny negative value may underflow to zero; see _bin.
            scaled[(values < 0.0) & (scaled == 0.0)] = -1.0
    if grid.first:
        scaled -= grid.first
    # the vector units have a conversion to 32 and less bits only
    return scaled.astype(np.int16)


def _regridded(histogram: Tensor, source: _Grid, target: _Grid) -> Tensor:
    """The counts of a grid in one that is as coarse or coarser and contains it."""
    # Shifting by the width of the type is undefined; by 63 all bins are already 0 or -1.
    shift = min(target.exponent - source.exponent, 63)
    index = (torch.arange(source.first, source.first + source.size) >> shift) - target.first
    return torch.zeros(target.size, dtype=torch.int64).index_add_(0, index, histogram)


_Layout: TypeAlias = Mapping[str, tuple[torch.dtype, int | None]]
_LAYOUT: _Layout = {"range": (torch.float64, 2), "tally": (torch.int64, 5), "histogram": (torch.int64, None)}
_CHANNEL_LAYOUT: _Layout = {
    "minimum": (torch.float64, None), "maximum": (torch.float64, None), "excluded": (torch.int64, 1)
}  # fmt: skip


def _check_layout(state: Mapping[str, Tensor], layout: _Layout, *, where: str) -> None:
    for key, (dtype, size) in layout.items():
        tensor = state.get(key)
        if tensor is None or tensor.dtype != dtype or tensor.ndim != 1 or size not in (None, len(tensor)):
            seen = "nothing" if tensor is None else f"{tensor.dtype} of shape {list(tensor.shape)}"
            raise ValueCheckError(
                f"{seen} as {key!r}", needed=f"{dtype} of shape [{'n' if size is None else size}]",
                where=where, remedy=f"pass what {where.partition('.')[0]}.state returned",
            )  # fmt: skip


def _check_sums(sketch: RangeSketch) -> None:
    empty = sketch.histogram.numel() == 0
    bounded = -HUGE < sketch.minimum <= sketch.maximum < HUGE
    size = sketch._grid.size if bounded else 0
    if empty != bounded and len(sketch.histogram) == size and int(sketch.histogram.sum()) == sketch.ordinary:
        return
    raise ValueCheckError(
        f"{len(sketch.histogram)} bins with {int(sketch.histogram.sum())} values for {sketch.ordinary} "
        f"ordinary values from {sketch.minimum} to {sketch.maximum}",
        needed=f"{size} bins that sum to {sketch.ordinary}", where="RangeSketch.from_state",
        remedy="pass what RangeSketch.state returned; calibrate again if the file is damaged",
    )  # fmt: skip
