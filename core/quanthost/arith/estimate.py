"""Range estimators: choose the range to quantize from a sketch, as the qspec's estimator says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from quanthost.arith.affine import qparams_from_range
from quanthost.arith.sketch import HUGE, RangeSketch
from quanthost.errors import CalibrationError, ValueCheckError
from quanthost.values import Estimator, QSpec, Symmetry

__all__ = ["choose_range", "expected_squared_error"]

_Range: TypeAlias = tuple[float, float]

# The search for clips covers ten octaves below the extremes, in rounds with this many clips per side. If
# both sides are free there are few, and the first round joins bins by four, to stay below 5 ms on 2,048
# bins. If one side is free there are many: fewer miss narrow minima (as of SiLU, whose mass peaks at its
# minimum).
_OCTAVES = 10.0
_ROUNDS_TWO, _STRIDE_TWO = (16, 9, 7), 4
_ROUNDS_ONE, _STRIDE_ONE = (240, 33, 17), 1
# The last round shifts the levels: 5 zero points times 25 scales within 2 %.
_NUDGES = (-2, -1, 0, 1, 2)
_STRETCHES = 1.0 + torch.linspace(-0.02, 0.02, 25, dtype=torch.float64)
# Ranges evaluated at once; their [_AT_ONCE, edges] temporaries fit in the second-level cache.
_AT_ONCE = 32
# The most thresholds that the entropy estimator compares.
_THRESHOLDS = 128


def choose_range(sketch: RangeSketch, spec: QSpec) -> _Range:
    """Choose the range ``(minimum, maximum)`` for ``qparams_from_range``, in the unit of the data.

    By ``spec.estimator``:

    - minmax: the extremes of the data;
    - percentile: ``percentile`` percent of the values lie at or below the maximum, and as many at or
      above the minimum, interpolated linearly inside a bin;
    - mse: the least ``expected_squared_error`` over lower and upper clips, never above that of minmax;
    - entropy: the threshold on the magnitude whose quantized histogram has the least Kullback-Leibler
      divergence from the data's.

    The range is between the extremes. The range of mse may exceed them by two scales if this brings levels
    closer to the data, and is mirrored at 0 if the spec is symmetric. A moving average depends on the order
    of the batches, which a sketch does not record, and is refused.
    """
    estimate = _ESTIMATORS.get(spec.estimator.kind)
    if estimate is None:
        names = ", ".join(kind.value for kind in _ESTIMATORS)
        raise ValueCheckError(
            f"the estimator {spec.estimator.kind.value} on a sketch", needed=f"one of {names}",
            where="choose_range", value=spec.estimator,
            remedy="choose mse or minmax: their result does not depend on the order of the data",
        )  # fmt: skip
    _require_data(sketch)
    return estimate(sketch, spec)


def expected_squared_error(sketch: RangeSketch, minimum: Tensor, maximum: Tensor, spec: QSpec) -> Tensor:
    """The expected mean squared error of quantizing the data of a sketch with each of ``K`` ranges.

    ``minimum`` and ``maximum`` are float64 ``[K]``; so is the result, in the square of the data's unit.
    Each range is quantized as by ``qparams_from_range``, including the rounding of scale and zero point.
    The values of a bin count as uniform between its edges, those of an outer bin between edge and extreme;
    the excess of an outer bin over its neighbour counts as lying at the extreme. Zeros after a ReLU
    therefore add ``bin_width² / 3`` each, the same for all scales above two bins.

    With levels ``k × s``, ``k(x) = clamp(round(x / s))``, the integral of the squared error over
    ``[0, x]`` is ``s³ / 12 × (k(x) + 4 × (x / s - k(x))³)``, inside the outer levels and beyond.
    """
    _require_data(sketch)
    return _mean_error(_Density(sketch), minimum, maximum, spec)


def _require_data(sketch: RangeSketch) -> None:
    if sketch.ordinary > 0:
        return
    raise CalibrationError(
        f"{sketch.count} values, none of them finite and below {HUGE:g} in magnitude",
        needed="at least one such value", where="range estimation", value=sketch,
        remedy="calibrate with finite data that reaches this tensor",
    )  # fmt: skip


class _Density:
    """The values of a sketch as a piecewise constant density with two atoms; the density is stored as jumps.

    ``edges`` and ``jumps`` are float64 ``[E]``. A jump is the density left of its edge minus that right of
    it, so that the mean of ``f`` is ``Σ F(edge) × jump`` for any ``F`` with ``F' = f``, plus
    ``Σ f(atom) × weight`` (both float64 ``[2]``). ``stride`` is the number of bins that are joined.
    """

    def __init__(self, sketch: RangeSketch, stride: int = 1) -> None:
        edges = _edges(sketch)
        counts = sketch.histogram / sketch.ordinary
        self.atoms = torch.tensor((sketch.minimum, sketch.maximum), dtype=torch.float64)
        self.weights = _atom_weights(counts, edges)
        counts[0] -= self.weights[0]
        counts[-1] -= self.weights[1]
        below = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
        if stride > 1:
            edges, below = (torch.cat((part[:-1:stride], part[-1:])) for part in (edges, below))
        density = below.diff() / edges.diff()
        outside = density.new_zeros(1)
        jumps = torch.cat((outside, density)) - torch.cat((density, outside))
        occupied = jumps != 0.0
        self.edges, self.jumps = edges[occupied], jumps[occupied]


def _edges(sketch: RangeSketch) -> Tensor:
    """The edges of the bins with the outer two moved to the extremes, float64."""
    edges = sketch.edges()
    # an extreme may lie on the inner edge of its bin, and a bin needs some width
    sliver = sketch.bin_width / 1024.0
    edges[-1] = max(sketch.maximum, edges[-2].item() + sliver)
    edges[0] = min(sketch.minimum, edges[1].item() - sliver)
    return edges


def _atom_weights(shares: Tensor, edges: Tensor) -> Tensor:
    """The shares of values at the minimum and the maximum: the excess of an outer bin over its neighbour.

    Saturating functions (tanh, ReLU6) and single outliers have such an excess. A bin that touches 0 counts
    as having none: its mass may just as well be the peak of a density narrower than the bin.
    """
    high = float(shares[-1] - (shares[-2] if len(shares) > 1 else 0.0)) if edges[-2] > 0.0 else 0.0
    low = float(shares[0] - (shares[1] if len(shares) > 1 else max(high, 0.0))) if edges[1] < 0.0 else 0.0
    return torch.tensor((low, high), dtype=torch.float64).clamp(min=0.0)


def _mean_error(density: _Density, minimum: Tensor, maximum: Tensor, spec: QSpec) -> Tensor:
    scales, zero_points = (part.to(torch.float64) for part in qparams_from_range(minimum, maximum, spec))
    means = []
    for scale, zero_point in zip(scales.split(_AT_ONCE), zero_points.split(_AT_ONCE)):
        lowest, highest = (spec.quant_min - zero_point)[:, None], (spec.quant_max - zero_point)[:, None]
        position = density.edges / scale[:, None]
        level = position.round().clamp_(lowest, highest)
        integral = level.add_(position.sub_(level).pow_(3), alpha=4.0)
        atom = density.atoms / scale[:, None]
        square = (atom - atom.round().clamp(lowest, highest)).square()
        means.append(scale**3 / 12.0 * (integral @ density.jumps) + scale**2 * (square @ density.weights))
    return torch.cat(means)


def _minmax(sketch: RangeSketch, spec: QSpec) -> _Range:
    return sketch.minimum, sketch.maximum


def _percentile(sketch: RangeSketch, spec: QSpec) -> _Range:
    percent = spec.estimator.percentile
    assert percent is not None
    if percent == 100.0:
        return _minmax(sketch, spec)
    edges = _edges(sketch)
    below = torch.cat((torch.zeros(1, dtype=torch.int64), sketch.histogram.cumsum(0)))

    def quantile(percent_below: float) -> float:
        target = percent_below / 100.0 * sketch.ordinary
        upper = int(torch.searchsorted(below.to(torch.float64), target))
        if upper == 0:
            return sketch.minimum
        left, right = below[upper - 1].item(), below[upper].item()
        start, end = edges[upper - 1].item(), edges[upper].item()
        value: float = start + (target - left) / (right - left) * (end - start)
        return min(max(value, sketch.minimum), sketch.maximum)

    return quantile(100.0 - percent), quantile(percent)


def _mse(sketch: RangeSketch, spec: QSpec) -> _Range:
    """Search in rounds of clips, each finer and around the best so far, then in one round of shifted levels.

    Clips are the extremes times powers of two, since the best clip of a heavy tail is octaves below them.
    """
    limits = _limits(sketch, spec)
    both = spec.symmetry is Symmetry.AFFINE and limits[0] < 0.0 < limits[1]
    (first, *rounds), stride = (_ROUNDS_TWO, _STRIDE_TWO) if both else (_ROUNDS_ONE, _STRIDE_ONE)
    density = _Density(sketch)
    exponents = torch.linspace(-_OCTAVES, 0.0, first, dtype=torch.float64)
    clips = _clips(torch.exp2(exponents), limits, limits, spec)
    _, best = _least(density if stride == 1 else _Density(sketch, stride), *clips, spec)
    error, width = math.inf, _OCTAVES / (first - 1)
    for number in rounds:
        exponents = torch.linspace(-width, width, number, dtype=torch.float64)
        error, best = min(
            (error, best), _least(density, *_clips(torch.exp2(exponents), best, limits, spec), spec)
        )
        width *= 2.0 / (number - 1)
    if both:
        error, best = min((error, best), _least(density, *_shifts(best, spec), spec))
    low, high = torch.tensor(limits, dtype=torch.float64).split(1)
    return min(_least(density, low, high, spec), (error, best))[1]


def _limits(sketch: RangeSketch, spec: QSpec) -> _Range:
    """The widest range to try: the extremes and 0, mirrored if the spec is symmetric."""
    low, high = min(sketch.minimum, 0.0), max(sketch.maximum, 0.0)
    if spec.symmetry is Symmetry.AFFINE:
        return low, high
    return min(low, -high), max(-low, high)


def _least(density: _Density, low: Tensor, high: Tensor, spec: QSpec) -> tuple[float, _Range]:
    errors = _mean_error(density, low, high, spec)
    best = int(errors.argmin())
    return errors[best].item(), (low[best].item(), high[best].item())


def _clips(factors: Tensor, center: _Range, limits: _Range, spec: QSpec) -> tuple[Tensor, Tensor]:
    """Both ends of a range times the factors, inside the limits; all pairs if both ends are free."""
    low, high = (factors * center[0]).clamp(min=limits[0]), (factors * center[1]).clamp(max=limits[1])
    if spec.symmetry is Symmetry.SYMMETRIC or limits[0] == 0.0 or limits[1] == 0.0:
        return low, high
    pairs = torch.cartesian_prod(low, high)
    return pairs[:, 0], pairs[:, 1]


def _shifts(center: _Range, spec: QSpec) -> tuple[Tensor, Tensor]:
    """The ranges of scales and zero points close to those of a range; their ends are levels."""
    scale, zero_point = (part.to(torch.float64) for part in qparams_from_range(*center, spec))
    zero_points = (zero_point + torch.tensor(_NUDGES)).clamp(spec.quant_min, spec.quant_max).unique()
    pairs = torch.cartesian_prod(scale * _STRETCHES, zero_points)
    return pairs[:, 0] * (spec.quant_min - pairs[:, 1]), pairs[:, 0] * (spec.quant_max - pairs[:, 1])


def _entropy(sketch: RangeSketch, spec: QSpec) -> _Range:
    """Migacz 2017, "8-bit Inference with TensorRT": a threshold includes at least as many bins as levels.

    The reference is the histogram of magnitudes up to the threshold; the values beyond it are added to the
    last occupied bin. The candidate joins the bins to levels and spreads each sum evenly over the occupied
    ones. (Adding to an empty bin, as published, makes the divergence infinite and retains single outliers.)
    The bin at zero gets its neighbour's count, as in NVIDIA's pytorch-quantization: zero is exact under every
    threshold, and the many zeros after a ReLU would decide alone. At most 128 evenly spaced thresholds are
    tried.
    """
    counts = _magnitudes(sketch)
    one_sided = sketch.minimum >= 0.0 or sketch.maximum <= 0.0
    levels = spec.quant_max - spec.quant_min + 1
    if spec.symmetry is Symmetry.SYMMETRIC or not one_sided:
        levels //= 2
    if len(counts) <= levels:
        return _minmax(sketch, spec)
    counts[0] = counts[1]
    stride = math.ceil((len(counts) - levels) / _THRESHOLDS)
    best = min(range(len(counts), levels - 1, -stride), key=lambda bins: _divergence(counts, bins, levels))
    threshold = (best + 0.5) * sketch.bin_width
    return max(sketch.minimum, -threshold), min(sketch.maximum, threshold)


def _magnitudes(sketch: RangeSketch) -> Tensor:
    """The counts (float64) of magnitudes in bins from 0 on; bin ``-1`` mirrors bin 0."""
    index = torch.round(sketch.edges()[:-1] / sketch.bin_width).to(torch.int64)
    index = torch.where(index < 0, -1 - index, index)
    return torch.bincount(index, weights=sketch.histogram.to(torch.float64))


def _divergence(counts: Tensor, bins: int, levels: int) -> float:
    """The Kullback-Leibler divergence of the first bins, as ``levels`` steps, from the reference, in nat."""
    inside = counts[:bins]
    occupied = (inside > 0.0).to(torch.float64)
    if not bool(occupied.any()):
        return math.inf
    reference = inside.clone()
    reference[occupied.nonzero()[-1]] += counts[bins:].sum()
    level = torch.arange(bins) * levels // bins
    mean = torch.bincount(level, inside) / torch.bincount(level, occupied).clamp(min=1.0)
    candidate = mean[level] * occupied
    reference, candidate = reference / reference.sum(), candidate / candidate.sum()
    present = reference > 0.0
    return float((reference[present] * (reference[present] / candidate[present]).log()).sum())


_ESTIMATORS: Mapping[Estimator, Callable[[RangeSketch, QSpec], _Range]] = MappingProxyType(
    {
        Estimator.MINMAX: _minmax,
        Estimator.PERCENTILE: _percentile,
        Estimator.MSE: _mse,
        Estimator.ENTROPY: _entropy,
    }
)
