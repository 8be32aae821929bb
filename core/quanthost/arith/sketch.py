"""``RangeSketch``: a mergeable histogram of a tensor's values that does not depend on the data's order."""

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

from quanthost.arith.grid import Grid, bin_of, bins_of, regrid
from quanthost.errors import ValueCheckError

__all__ = ["HUGE", "SAMPLE_SIZE", "Layout", "RangeSketch", "as_float_tensor", "check_layout"]

HUGE = 1e30
"""The magnitude from which a finite value counts as a sentinel (attention masks add -1e30 and beyond)."""

SAMPLE_SIZE = 1 << 14
"""The approximate number of values of a large tensor that are counted, at a density of 1."""

# Tensors of up to _ALL values are counted completely. Of larger ones, _ROOTS times the square root of the
# number of values is counted, at most SAMPLE_SIZE.
_ALL, _ROOTS = 1 << 13, 48


@attrs.define(eq=False)
class RangeSketch:
    """What calibration records of the values of one tensor: a commutative monoid under ``merge``.

    ``minimum`` and ``maximum`` are exact and cover the *ordinary* values: finite and below ``HUGE`` in
    magnitude. Without any, they are ``inf`` and ``-inf``. ``histogram`` (int64) counts the ordinary values
    in bins of width ``bin_width``, a power of two; bin 0 of the grid starts at 0, the first element of
    ``histogram`` is the bin of ``minimum``, the last that of ``maximum``. Other values are only counted:
    ``nan``, ``positive_infinity``, ``negative_infinity``, ``huge``. ``count`` is the number of all values.

    Widths are powers of two, so that ``x / width`` is exact in binary floating point and doubling the width
    maps bin ``i`` to ``floor(i / 2)``. The state therefore has the same bits for each order and merge of the
    tensors, and for tensors of up to 8,192 values also for each split of them. For a larger tensor the
    histogram counts a systematic sample that depends on its size, extremes and the density: every ``k``-th
    value in memory order counts ``k`` times, and the extremes count once. The start of the sample differs
    between tensors, so that all places of a stream are sampled.
    """

    minimum: float = math.inf
    maximum: float = -math.inf
    histogram: Tensor = attrs.field(factory=lambda: torch.zeros(0, dtype=torch.int64))
    count: int = 0
    nan: int = 0
    positive_infinity: int = 0
    negative_infinity: int = 0
    huge: int = 0
    _spanned: tuple[float, float, Grid] | None = attrs.field(default=None, init=False, repr=False)

    @property
    def ordinary(self) -> int:
        """The number of values that are finite and not huge."""
        return self.count - self.nan - self.positive_infinity - self.negative_infinity - self.huge

    @property
    def bin_width(self) -> float:
        """The width of each bin, in the unit of the data; 0 while ``ordinary`` is 0."""
        return math.ldexp(1.0, self._grid.exponent) if self.ordinary else 0.0

    def edges(self) -> Tensor:
        """The ``len(histogram) + 1`` edges of the bins, ascending, float64."""
        if not self.ordinary:
            return torch.zeros(1, dtype=torch.float64)
        grid = self._grid
        return torch.arange(grid.first, grid.first + grid.size + 1, dtype=torch.float64) * self.bin_width

    def update(self, tensor: Tensor, density: float = 1.0) -> None:
        """Add the values of a tensor of any float dtype, shape and layout; the tensor is not stored.

        ``density`` (at least 1) multiplies the number of values of a large tensor that are counted.
        """
        values = _dense(tensor)
        total = values.numel()
        self.count += total
        if total == 0:
            return
        low, high = _bounds(values)
        # NaN fails this too, so that one reduction decides whether any scan is needed
        if not (low > -HUGE and high < HUGE):
            values = self._drop_special(values, low, high)
            total = values.numel()
            if total == 0:
                return
            low, high = _bounds(values)
        if not self.minimum <= low <= high <= self.maximum:
            self._widen(low, high)
        # on few values a numpy operator takes a third of torch's time, with any number of threads
        counts, array = self.histogram.numpy(), values.numpy().reshape(-1)
        if total <= _ALL:
            counts += np.bincount(bins_of(array, self._grid), minlength=len(counts))
        else:
            _count_sample(counts, array, self._grid, (low, high), density)

    def merge(self, other: RangeSketch) -> RangeSketch:
        """The sketch of both streams; does not change the operands."""
        merged = attrs.evolve(self, histogram=self.histogram.clone())
        merged.count += other.count
        merged.nan += other.nan
        merged.positive_infinity += other.positive_infinity
        merged.negative_infinity += other.negative_infinity
        merged.huge += other.huge
        if other.histogram.numel():
            merged._widen(other.minimum, other.maximum)
            merged.histogram += regrid(other.histogram, other._grid, merged._grid)
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
        """The inverse of ``state``; raises ``ValueCheckError`` if the tensors contradict each other."""
        check_layout(state, _LAYOUT, where="RangeSketch.from_state")
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
    def _grid(self) -> Grid:
        cache = self._spanned
        if cache is None or cache[:2] != (self.minimum, self.maximum):
            cache = self._spanned = (self.minimum, self.maximum, Grid.spanning(self.minimum, self.maximum))
        return cache[2]

    def _drop_special(self, values: Tensor, low: float, high: float) -> Tensor:
        """Count the values that are not ordinary, and return the others; the bounds save needless scans."""
        has_nan = math.isnan(low)
        nan = int(values.isnan().sum()) if has_nan else 0
        above = int((values == math.inf).sum()) if has_nan or high == math.inf else 0
        below = int((values == -math.inf).sum()) if has_nan or low == -math.inf else 0
        ordinary = values[values.abs() < HUGE]
        self.nan += nan
        self.positive_infinity += above
        self.negative_infinity += below
        self.huge += values.numel() - ordinary.numel() - nan - above - below
        return ordinary

    def _widen(self, low: float, high: float) -> None:
        if self.histogram.numel() == 0:
            self.minimum, self.maximum = low, high
            self.histogram = torch.zeros(self._grid.size, dtype=torch.int64)
            return
        if self.minimum <= low and high <= self.maximum:
            return
        before = self._grid
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.histogram = regrid(self.histogram, before, self._grid)


def as_float_tensor(tensor: Tensor) -> Tensor:
    if tensor.dtype not in (torch.float32, torch.float64):
        if not tensor.is_floating_point():
            raise ValueCheckError(
                f"a tensor of {tensor.dtype}", needed="a float tensor", where="range statistics",
                remedy="observe float tensors only; integers and booleans are never quantized", value=tensor,
            )  # fmt: skip
        tensor = tensor.to(torch.float32)
    return tensor.detach() if tensor.requires_grad else tensor


def _dense(tensor: Tensor) -> Tensor:
    """All elements, float32 or float64, in memory order; no copy if the memory is dense."""
    values = as_float_tensor(tensor)
    if values.is_contiguous():
        return values
    # the order of the elements does not matter, and memory order is fast
    order = sorted(range(values.ndim), key=values.stride, reverse=True)
    return values.permute(order).contiguous()


def _bounds(values: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(values)
    # -0.0 + 0.0 is 0.0: which zero a reduction returns depends on the order
    return low.item() + 0.0, high.item() + 0.0


def _count_sample(
    counts: NDArray[np.int64],
    values: NDArray[np.floating],
    grid: Grid,
    extremes: tuple[float, float],
    density: float,
) -> None:
    """Count a sample of the values; the sum of the added counts is the number of all values."""
    total, (low, high) = len(values), extremes
    step = _step(total, density)
    # the last bits of the extremes are as good as random, and independent of the order of the tensors
    start = int(math.ldexp(math.frexp(low)[0] + math.frexp(high)[0], 24)) % step
    index = bins_of(values[start : (total - 2) // step * step : step], grid)
    counts += np.bincount(index, minlength=len(counts)) * step
    # the rest: the extremes, and a few values after the last sampled one
    counts[bin_of(low, grid.exponent) - grid.first] += 1
    counts[bin_of(high, grid.exponent) - grid.first] += 1
    counts[index[-1]] += total - 2 - len(index) * step


@functools.lru_cache(maxsize=4096)
def _step(total: int, density: float) -> int:
    """The distance of sampled values; coprime to the size, so that it favours no column or channel."""
    step = max(math.isqrt(total) // int(density * _ROOTS), total // int(density * SAMPLE_SIZE)) | 1
    while math.gcd(step, total) > 1:
        step += 2
    return step


Layout: TypeAlias = Mapping[str, tuple[torch.dtype, int | None]]
_LAYOUT: Layout = {"range": (torch.float64, 2), "tally": (torch.int64, 5), "histogram": (torch.int64, None)}


def check_layout(state: Mapping[str, Tensor], layout: Layout, *, where: str) -> None:
    for key, (dtype, size) in layout.items():
        tensor = state.get(key)
        if tensor is None or tensor.dtype != dtype or tensor.ndim != 1 or size not in (None, len(tensor)):
            actual = "nothing" if tensor is None else f"{tensor.dtype} of shape {list(tensor.shape)}"
            raise ValueCheckError(
                f"{actual} as {key!r}", needed=f"{dtype} of shape [{'n' if size is None else size}]",
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
