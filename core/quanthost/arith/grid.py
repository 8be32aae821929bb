"""Grids of bins whose widths are powers of two, so that a finer grid coarsens exactly into a wider one."""

from __future__ import annotations

import math

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MAX_BINS", "Grid", "bin_of", "bins_of", "regrid"]

MAX_BINS = 2048
"""The most bins of a histogram: 16 KiB of int64."""

# dividing a float32 by a smaller width may overflow
_LEAST_EXPONENT = -126
_BIN_BITS = MAX_BINS.bit_length() - 1


@attrs.frozen
class Grid:
    """``size`` bins from bin ``first`` on; bin ``i`` is ``[i × width, (i + 1) × width)``.

    The width is ``2**exponent``.
    """

    exponent: int
    first: int
    size: int

    @classmethod
    def spanning(cls, low: float, high: float) -> Grid:
        """The finest grid with at most ``MAX_BINS`` bins from 0 to both bounds.

        It depends on the bounds only, so that data has one grid however it is split. The width never
        shrinks as the bounds grow, so that every earlier grid can be coarsened to it.
        """
        largest = max(high, -low)
        exponent = _LEAST_EXPONENT
        if largest > 0.0:
            exponent = max(math.frexp(largest)[1] - _BIN_BITS, _LEAST_EXPONENT)
        below, above = min(low, 0.0), max(high, 0.0)
        if bin_of(above, exponent) - bin_of(below, exponent) >= MAX_BINS:
            exponent += 1
        first = bin_of(low, exponent)
        return cls(exponent, first, bin_of(high, exponent) - first + 1)


def bin_of(value: float, exponent: int) -> int:
    """The number of the bin of width ``2**exponent`` that contains a value."""
    index = math.floor(math.ldexp(value, -exponent))
    # a tiny negative value may underflow to zero, which would move it across the edge at 0
    return min(index, -1) if value < 0.0 else index


def bins_of(values: NDArray[np.floating], grid: Grid) -> NDArray[np.int16]:
    """The bin of each value, counted from the first bin of the grid."""
    scaled = values * math.ldexp(1.0, -grid.exponent)
    if grid.first:
        np.floor(scaled, out=scaled)
        if grid.exponent > 0:
            # the product of a tiny negative value may underflow to zero, see bin_of
            scaled[(values < 0.0) & (scaled == 0.0)] = -1.0
        scaled -= grid.first
    # vector units convert to at most 32 bits
    return scaled.astype(np.int16)


def regrid(histogram: Tensor, source: Grid, target: Grid) -> Tensor:
    """Move the counts to a grid that contains the source grid and is not finer."""
    # a shift by the width of the type is undefined; after 63 all bins are 0 or -1
    shift = min(target.exponent - source.exponent, 63)
    index = (torch.arange(source.first, source.first + source.size) >> shift) - target.first
    return torch.zeros(target.size, dtype=torch.int64).index_add_(0, index, histogram)
