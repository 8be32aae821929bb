"""Range estimators: the closed form of the error, optimality, and accuracy against torchao's observer."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quanthost.arith import (
    QParams,
    RangeSketch,
    choose_range,
    estimate,
    expected_squared_error,
    fake_quantize,
    qparams_from_range,
)
from quanthost.errors import CalibrationError, ValueCheckError
from quanthost.values import DType, Estimator, QSpec, RangeEstimator, Symmetry

AFFINE = QSpec(dtype=DType.INT8)
SYMMETRIC = QSpec(dtype=DType.INT8, quant_min=-127, symmetry=Symmetry.SYMMETRIC)
MINMAX = QSpec(dtype=DType.INT8, estimator=RangeEstimator(kind=Estimator.MINMAX))
ENTROPY = RangeEstimator(kind=Estimator.ENTROPY)

SPECS = {
    "affine": AFFINE,
    "symmetric": SYMMETRIC,
    "symmetric -128": QSpec(dtype=DType.INT8, symmetry=Symmetry.SYMMETRIC),
    "uint8": QSpec(dtype=DType.UINT8),
    "int4": QSpec(dtype=DType.INT4),
    "int16": QSpec(dtype=DType.INT16),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())

_N = 65_536


def _normal(g: torch.Generator) -> Tensor:
    return torch.randn(_N, generator=g)


def _uniform(g: torch.Generator) -> Tensor:
    return torch.rand(_N, generator=g)


def _laplace(g: torch.Generator) -> Tensor:
    return _uniform(g).clamp(min=1e-7).log() * (_uniform(g) - 0.5).sign()


def _student(g: torch.Generator) -> Tensor:
    """Student's t with two degrees of freedom: infinite variance."""
    return _normal(g) / ((_normal(g).square() + _normal(g).square()) / 2).sqrt()


DISTRIBUTIONS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "gaussian": _normal,
    "laplace": _laplace,
    "relu": lambda g: _normal(g).relu(),
    "relu6": lambda g: (_normal(g) * 4).clamp(0, 6),
    "negative": lambda g: -_normal(g).abs(),
    "uniform": lambda g: _uniform(g) * 2 - 1,
    "uniform positive": _uniform,
    "bimodal": lambda g: torch.where(_uniform(g) < 0.5, _normal(g) * 0.1 - 1, _normal(g) * 0.2 + 2),
    "heavy tails": _student,
    "log-normal": lambda g: (_normal(g) * 1.5).exp(),
    "mostly zero": lambda g: _normal(g) * (_uniform(g) < 0.03),
    "sigmoid": lambda g: (_normal(g) * 3).sigmoid(),
    "tanh": lambda g: (_normal(g) * 4).tanh(),
    "saturated": lambda g: (_normal(g) * 2).clamp(-1, 1),
    "hardswish": lambda g: torch.nn.functional.hardswish(_normal(g) * 3),
    "silu": lambda g: torch.nn.functional.silu(_normal(g) * 2),
    "softmax": lambda g: (_normal(g) * 2).reshape(-1, 64).softmax(-1),
    "outliers": lambda g: torch.cat((_normal(g), torch.tensor([300.0, -200.0]))),
}


def draw(name: str, seed: int = 0) -> Tensor:
    return DISTRIBUTIONS[name](torch.Generator().manual_seed(seed))


def sketch_of(*tensors: Tensor) -> RangeSketch:
    sketch = RangeSketch()
    for tensor in tensors:
        # in pieces that are binned value by value: what is judged here is the estimator
        for piece in tensor.flatten().split(8_000):
            sketch.update(piece)
    return sketch


def measured(x: Tensor, scale: Tensor, zero_point: Tensor, spec: QSpec) -> float:
    """Mean squared error of quantizing the data itself."""
    qparams = QParams.for_spec(spec, scale, zero_point)
    return float((fake_quantize(x, qparams).double() - x.double()).square().mean())


def measured_of_range(x: Tensor, bounds: tuple[float, float], spec: QSpec) -> float:
    return measured(x, *qparams_from_range(*bounds, spec), spec)


def expected(sketch: RangeSketch, bounds: tuple[float, float], spec: QSpec) -> float:
    low, high = torch.tensor(bounds, dtype=torch.float64).split(1)
    return float(expected_squared_error(sketch, low, high, spec))


@each_spec
@pytest.mark.parametrize("clip", [0.05, 0.5, 1.0])
def test_expected_error_is_that_of_uniform_bins(spec: QSpec, clip: float) -> None:
    """The closed form agrees with quantizing data spread evenly in each bin, to 0.1 %."""
    sketch = sketch_of(torch.tensor([-0.9993, -0.997, -0.3, 0.4, 0.41, 1.999, 2.0]))
    edges = sketch.edges().tolist()
    edges[0], edges[-1] = sketch.minimum, edges[-2] + sketch.bin_width / 1024
    spread = [
        torch.linspace(left, right, 20_001, dtype=torch.float64).repeat(count)
        for left, right, count in zip(edges, edges[1:], sketch.histogram.tolist())
        if count
    ]
    bounds = (clip * -1.0, clip * 2.0)
    fake = torch.cat(spread).to(torch.float32)
    assert expected(sketch, bounds, spec) == pytest.approx(measured_of_range(fake, bounds, spec), rel=2e-3)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "uniform", "sigmoid", "saturated"])
def test_expected_error_predicts_the_measured_one(name: str) -> None:
    """Where densities are smooth inside a bin, or saturate, expectation and measurement differ by 1 %."""
    x = draw(name)
    sketch = sketch_of(x)
    for clip in (0.2, 0.5, 1.0):
        bounds = (clip * sketch.minimum, clip * sketch.maximum)
        assert expected(sketch, bounds, AFFINE) == pytest.approx(
            measured_of_range(x, bounds, AFFINE), rel=0.01
        )


data = st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=30).map(torch.tensor)


@each_spec
@given(x=data)
def test_mse_expects_no_more_than_minmax(spec: QSpec, x: Tensor) -> None:
    """By the expected error, the chosen range is never worse than the whole one."""
    sketch = sketch_of(x)
    chosen = expected(sketch, choose_range(sketch, spec), spec)
    assert chosen <= expected(sketch, (sketch.minimum, sketch.maximum), spec)


def test_mse_puts_levels_where_the_data_saturates() -> None:
    """Levels move to the mass at both ends of a mirrored range, which lies between the levels of minmax."""
    x = draw("saturated")
    minmax = measured_of_range(x, (-1.0, 1.0), AFFINE)
    assert measured_of_range(x, choose_range(sketch_of(x), AFFINE), AFFINE) < 0.4 * minmax


def test_mse_falls_back_on_minmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the search finds nothing better, the range of the data is chosen."""
    ends = torch.tensor([-1e-3], dtype=torch.float64), torch.tensor([1e-3], dtype=torch.float64)
    monkeypatch.setattr(estimate, "_clips", lambda *_: ends)
    assert choose_range(sketch_of(draw("uniform")), SYMMETRIC)[1] > 0.99


@pytest.mark.parametrize("spec", [AFFINE, SYMMETRIC], ids=["affine", "symmetric"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_is_as_accurate_as_the_histogram_observer(name: str, spec: QSpec) -> None:
    """Measured on three batches, the error is at most 0.5 % above that of torchao's observer."""
    observer = pytest.importorskip("torchao.quantization.pt2e.observer")
    scheme = torch.per_tensor_affine if spec is AFFINE else torch.per_tensor_symmetric
    theirs = observer.HistogramObserver(
        dtype=torch.int8, qscheme=scheme, quant_min=spec.quant_min, quant_max=spec.quant_max
    )
    batches = [draw(name, seed) for seed in range(3)]
    for batch in batches:
        theirs(batch)
    scale, zero_point = theirs.calculate_qparams()
    x = torch.cat(batches)
    chosen = choose_range(sketch_of(*batches), spec)
    assert measured_of_range(x, chosen, spec) <= 1.005 * measured(x, scale, zero_point.long(), spec)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "relu", "hardswish", "outliers"])
def test_mse_is_next_to_the_best_clip(name: str) -> None:
    """No clip of a dense grid over both sides measures more than 1 % better."""
    x = draw(name)
    sketch = sketch_of(x)
    chosen = measured_of_range(x, choose_range(sketch, AFFINE), AFFINE)
    clips = torch.linspace(0.3, 1.0, 15).tolist()
    for lower in clips if sketch.minimum < 0.0 else [1.0]:
        for upper in clips:
            bounds = (lower * sketch.minimum, upper * sketch.maximum)
            assert chosen <= 1.01 * measured_of_range(x, bounds, AFFINE)


@pytest.mark.parametrize("symmetry", Symmetry)
def test_mse_clips_a_lone_outlier(symmetry: Symmetry) -> None:
    """One value a million times the others' magnitude costs less than a scale that covers it."""
    x = torch.cat([_normal(torch.Generator().manual_seed(5))] * 8)
    spec = QSpec(dtype=DType.INT4, symmetry=symmetry)
    low, high = choose_range(sketch_of(x, torch.tensor([40.0])), spec)
    assert -5.0 < low < 0.0 < high < 5.0


@each_spec
@pytest.mark.parametrize("value", [0.0, 3.3, -1e-3, 1e20, 1e-40])
def test_constant_data_is_reconstructed(spec: QSpec, value: float) -> None:
    """A constant gives valid parameters, and is reconstructed to half a step of its range."""
    x = torch.full((10,), value)
    low, high = choose_range(sketch_of(x), spec)
    scale, zero_point = qparams_from_range(low, high, spec)
    error = fake_quantize(x, QParams.for_spec(spec, scale, zero_point)) - x
    steps = spec.quant_max - spec.quant_min
    assert error.abs().max().item() <= max(1.01 * abs(value) / steps, 2.0**-24)


def test_minmax_is_the_range_of_the_data() -> None:
    """Both extremes are exact."""
    x = draw("gaussian")
    assert choose_range(sketch_of(x), MINMAX) == (x.min().item(), x.max().item())


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0, 99.9])
@pytest.mark.parametrize("name", ["gaussian", "relu", "bimodal"])
def test_percentile_is_the_quantile(name: str, percentile: float) -> None:
    """Both ends are the quantiles of the data, to a bin's width."""
    x = draw(name)
    sketch = sketch_of(x)
    spec = QSpec(dtype=DType.INT8, estimator=percentile_of(percentile))
    quantiles = torch.quantile(x, torch.tensor([1 - percentile / 100, percentile / 100]))
    assert choose_range(sketch, spec) == pytest.approx(quantiles.tolist(), abs=1.01 * sketch.bin_width)


def percentile_of(percentile: float) -> RangeEstimator:
    return RangeEstimator(kind=Estimator.PERCENTILE, percentile=percentile)


@given(data)
def test_hundredth_percentile_is_minmax(x: Tensor) -> None:
    """The range of minmax contains all data."""
    spec = QSpec(dtype=DType.INT8, estimator=percentile_of(100.0))
    assert choose_range(sketch_of(x), spec) == choose_range(sketch_of(x), MINMAX)


@given(data, st.floats(50.0, 100.0))
def test_percentile_range_is_ordered_and_inside_the_data(x: Tensor, percentile: float) -> None:
    """Whatever the gaps in the data, the lower end is not above the upper one."""
    low, high = choose_range(sketch_of(x), QSpec(dtype=DType.INT8, estimator=percentile_of(percentile)))
    assert x.min().item() <= low <= high <= x.max().item()


def slow_divergence(counts: list[float], bins: int, levels: int) -> float:
    """The published procedure, bin by bin."""
    reference = counts[:bins]
    last = max((i for i in range(bins) if counts[i] > 0), default=0)
    reference[last] += sum(counts[bins:])
    candidate = [0.0] * bins
    for level in range(levels):
        members = [i for i in range(bins) if i * levels // bins == level]
        occupied = [i for i in members if counts[i] > 0]
        for i in occupied:
            candidate[i] = sum(counts[j] for j in members) / len(occupied)
    total, covered = sum(reference), sum(candidate)
    divergence = 0.0
    for p, q in zip(reference, candidate):
        if p > 0:
            divergence += math.inf if q == 0 else p / total * math.log((p / total) / (q / covered))
    return divergence


@pytest.mark.parametrize("spec", [AFFINE, SYMMETRIC], ids=["affine", "symmetric"])
@pytest.mark.parametrize("name", ["gaussian", "relu"])
def test_entropy_agrees_with_slow_implementation(name: str, spec: QSpec) -> None:
    """The threshold's divergence is within 2 % of the least of all, by a slow search over every bin."""
    x = draw(name)
    spec = QSpec(dtype=spec.dtype, quant_min=spec.quant_min, symmetry=spec.symmetry, estimator=ENTROPY)
    sketch = sketch_of(x)
    width = sketch.bin_width
    counts = magnitude_counts(x, width)
    counts[0] = counts[1]
    levels = 256 if spec.symmetry is Symmetry.AFFINE and name == "relu" else 128
    levels -= spec.symmetry is Symmetry.SYMMETRIC
    chosen = round(choose_range(sketch, spec)[1] / width - 0.5)
    least = min(slow_divergence(counts, bins, levels) for bins in range(levels, len(counts) + 1, 16))
    assert slow_divergence(counts, min(chosen, len(counts)), levels) <= 1.02 * least


def magnitude_counts(x: Tensor, width: float) -> list[float]:
    """Magnitudes in bins from 0; a value on an edge belongs to the bin that is further from 0."""
    bins = (x.double() / width).floor()
    magnitudes = torch.where(bins < 0, -1 - bins, bins).to(torch.int64)
    return [float(count) for count in magnitudes.bincount()]


def test_entropy_clips_both_sides_alike() -> None:
    """The threshold is one on the magnitude; outliers lie beyond it."""
    low, high = choose_range(sketch_of(draw("outliers")), QSpec(dtype=DType.INT8, estimator=ENTROPY))
    assert low == -high
    assert 0.0 < high < 200.0


def test_entropy_of_mirrored_data_is_mirrored() -> None:
    """Values below zero are folded onto those above bin by bin."""
    x = draw("gaussian").abs() + 1e-6
    spec = QSpec(dtype=DType.INT8, estimator=ENTROPY)
    low, high = choose_range(sketch_of(x), spec)
    assert choose_range(sketch_of(-x), spec) == (-high, -low)


def test_entropy_is_not_decided_by_zeros() -> None:
    """Zeros, which any threshold keeps exact, do not move the threshold."""
    x = draw("relu")
    spec = QSpec(dtype=DType.INT8, estimator=ENTROPY)
    more_zeros = sketch_of(x, torch.zeros(10 * x.numel()))
    assert choose_range(more_zeros, spec) == choose_range(sketch_of(x), spec)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [(torch.tensor([0.0]), DType.INT8), (draw("gaussian"), DType.INT16)],
    ids=["one bin", "more levels than bins"],
)
def test_entropy_without_bins_to_join_is_minmax(x: Tensor, dtype: DType) -> None:
    """With no more bins than levels, the whole range is chosen."""
    spec = QSpec(dtype=dtype, estimator=ENTROPY)
    assert choose_range(sketch_of(x), spec) == (x.min().item(), x.max().item())


@each_spec
@pytest.mark.parametrize(
    "kind", [Estimator.MINMAX, Estimator.PERCENTILE, Estimator.MSE, Estimator.ENTROPY], ids=lambda k: k.value
)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_range_can_be_quantized(name: str, kind: Estimator, spec: QSpec) -> None:
    """Each estimator gives ordered finite bounds that all dtypes take, and no NaN on the way back."""
    percentile = 99.9 if kind is Estimator.PERCENTILE else None
    estimator = RangeEstimator(kind=kind, percentile=percentile)
    spec = QSpec(dtype=spec.dtype, quant_min=spec.quant_min, symmetry=spec.symmetry, estimator=estimator)
    x = draw(name)[:5000]
    bounds = choose_range(sketch_of(x), spec)
    assert bounds[0] <= bounds[1]
    assert measured_of_range(x, bounds, spec) < float(x.double().square().mean())


def test_moving_average_is_refused() -> None:
    """An estimator that depends on the order of batches is refused with that reason."""
    spec = QSpec(dtype=DType.INT8, estimator=RangeEstimator(kind=Estimator.MOVING_AVERAGE, momentum=0.01))
    with pytest.raises(
        ValueCheckError, match=r"moving_average on a sketch[\s\S]*does not depend on the order"
    ):
        choose_range(sketch_of(torch.ones(3)), spec)


@pytest.mark.parametrize(
    "x", [torch.zeros(0), torch.tensor([math.nan, math.inf])], ids=["none", "not finite"]
)
def test_no_data_is_refused(x: Tensor) -> None:
    """Without ordinary values there is no range; the error has the number of values."""
    with pytest.raises(CalibrationError, match=f"{len(x)} values, none of them finite"):
        choose_range(sketch_of(x), AFFINE)
