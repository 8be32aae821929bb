"""Affine quantization against an independent slow implementation, the decomposed operators and torchao."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quanthost.arith import (
    SMALLEST_SCALE,
    QParams,
    dequantize,
    fake_quantize,
    qparams_from_range,
    quantize,
    sqnr_db,
)
from quanthost.errors import ValueCheckError
from quanthost.values import DType, Granularity, QSpec, Symmetry

AFFINE = QSpec(dtype=DType.INT8)
SYMMETRIC = QSpec(dtype=DType.INT8, symmetry=Symmetry.SYMMETRIC)
NARROW = QSpec(dtype=DType.INT8, quant_min=-127, symmetry=Symmetry.SYMMETRIC)
SPECS = {
    "int8": AFFINE,
    "int8 symmetric": SYMMETRIC,
    "int8 narrow symmetric": NARROW,
    "uint8": QSpec(dtype=DType.UINT8),
    "uint8 symmetric": QSpec(dtype=DType.UINT8, symmetry=Symmetry.SYMMETRIC),
    "uint8 0..127": QSpec(dtype=DType.UINT8, quant_max=127),
    "int4": QSpec(dtype=DType.INT4),
    "int16 symmetric": QSpec(dtype=DType.INT16, symmetry=Symmetry.SYMMETRIC),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
bounds = st.tuples(floats, floats).map(lambda pair: (min(pair), max(pair)))


def f32(value: float) -> float:
    """The nearest float32."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def slow_quantize(x: float, scale: float, zero_point: int, spec: QSpec) -> int:
    """One element with Python's numbers: every product and quotient is rounded to float32 once."""
    steps = f32(x * f32(1.0 / scale))
    integer = round(steps) if math.isfinite(steps) else int(math.copysign(10**9, steps))
    return min(max(integer + zero_point, spec.quant_min), spec.quant_max)


def params_of(low: float, high: float, spec: QSpec) -> QParams:
    return QParams.for_spec(spec, *qparams_from_range(low, high, spec))


def parameters(scale: object, zero_point: object, dtype: DType = DType.INT8, **layout: int) -> QParams:
    return QParams(
        scale=torch.as_tensor(scale), zero_point=torch.as_tensor(zero_point), dtype=dtype,
        quant_min=dtype.minimum, quant_max=dtype.maximum, **layout,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "low", "high", "scale", "zero_point"),
    [
        pytest.param(AFFINE, 0.0, 255.0, 1.0, -128, id="affine positive"),
        pytest.param(AFFINE, -255.0, 0.0, 1.0, 127, id="affine negative"),
        pytest.param(AFFINE, 51.0, 255.0, 1.0, -128, id="affine widened down to 0"),
        pytest.param(AFFINE, -255.0, -51.0, 1.0, 127, id="affine widened up to 0"),
        pytest.param(AFFINE, -0.5, 254.5, 1.0, -128, id="tie to even downwards"),
        pytest.param(AFFINE, -1.5, 253.5, 1.0, -126, id="tie to even upwards"),
        pytest.param(NARROW, -1.0, 127.0, 1.0, 0, id="symmetric -127..127"),
        pytest.param(SYMMETRIC, -127.5, 1.0, 1.0, 0, id="symmetric -128..127"),
        pytest.param(SPECS["uint8 symmetric"], -127.5, 1.0, 1.0, 128, id="symmetric 0..255"),
        pytest.param(AFFINE, 0.0, 0.0, f32(1 / 255), -128, id="zero alone is 0..1"),
        pytest.param(NARROW, 0.0, 0.0, f32(1 / 127), 0, id="zero alone, symmetric"),
        pytest.param(AFFINE, 0.0, 1e-30, SMALLEST_SCALE, -128, id="next to zero"),
        pytest.param(AFFINE, -3e38, 3e38, f32(6e38 / 255), 0, id="wider than float32"),
    ],
)
def test_parameters_of_known_ranges(
    spec: QSpec, low: float, high: float, scale: float, zero_point: int
) -> None:
    """Scale and zero point of ranges whose parameters are computed by hand."""
    actual_scale, actual_zero_point = qparams_from_range(low, high, spec)
    assert (actual_scale.item(), actual_zero_point.item()) == (scale, zero_point)
    assert (actual_scale.dtype, actual_zero_point.dtype) == (torch.float32, torch.int64)


@each_spec
@given(bounds=bounds)
def test_parameters_agree_with_exact_arithmetic(spec: QSpec, bounds: tuple[float, float]) -> None:
    """The scale is exact to half a float32 unit, and the zero point belongs to the rounded scale."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale, zero_point = (part.item() for part in qparams_from_range(*bounds, spec))
    steps = spec.quant_max - spec.quant_min
    if spec.symmetry is Symmetry.SYMMETRIC:
        exact = max(Fraction(-low), Fraction(high)) / Fraction(steps, 2)
        centre = 128 if spec.dtype is DType.UINT8 else 0
    else:
        exact = (Fraction(high) - Fraction(low)) / steps
        centre = spec.quant_min - round(Fraction(low) / Fraction(scale))
    if low == high == 0.0:
        exact = Fraction(1, steps) * (2 if spec.symmetry is Symmetry.SYMMETRIC else 1)
    assert scale == pytest.approx(max(float(exact), SMALLEST_SCALE), rel=2.0**-24)
    assert zero_point == min(max(centre, spec.quant_min), spec.quant_max)


def test_zero_point_comes_from_the_rounded_scale() -> None:
    """A range whose exact scale and float32 scale give different zero points."""
    low, high = -11.758051872253418, 12.324705123901367
    exact = (high - low) / 255
    scale, zero_point = qparams_from_range(low, high, AFFINE)
    by_exact, by_rounded = (-128 - round(low / value) for value in (exact, scale.item()))
    assert by_exact != by_rounded
    assert zero_point.item() == by_rounded


@each_spec
@given(bounds=bounds)
def test_zero_is_exact(spec: QSpec, bounds: tuple[float, float]) -> None:
    """Zero, which padding inserts, is exact under every range."""
    assert fake_quantize(torch.zeros(1), params_of(*bounds, spec)).item() == 0.0


@pytest.mark.parametrize("symmetry", Symmetry)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_parameters_are_those_of_torchao(symmetry: Symmetry, dtype: str) -> None:
    """Random ranges get the zero point of torchao's observer, and its scale to two float32 units."""
    observer = pytest.importorskip("torchao.quantization.pt2e.observer")
    scheme = getattr(torch, f"per_channel_{symmetry.value}")
    theirs = observer.PerChannelMinMaxObserver(dtype=getattr(torch, dtype), qscheme=scheme)
    ends = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * 3
    theirs(ends)
    expected_scale, expected_zero_point = theirs.calculate_qparams()
    spec = QSpec(dtype=DType(dtype), symmetry=symmetry, granularity=Granularity.PER_CHANNEL, axis=0)
    scale, zero_point = qparams_from_range(ends.amin(1), ends.amax(1), spec)
    assert torch.allclose(scale, expected_scale, rtol=2.0**-22, atol=0.0)
    assert torch.equal(zero_point, expected_zero_point.to(torch.int64))


@pytest.mark.parametrize(
    ("low", "high"), [(math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0), (math.inf, -math.inf), (2.0, 1.0)]
)
def test_unusable_ranges_are_refused(low: float, high: float) -> None:
    """A bound that is not finite, or bounds in the wrong order, are named in the error."""
    with pytest.raises(ValueCheckError, match=rf"the range {low} to {high} \(1 of 2 ranges"):
        qparams_from_range(torch.tensor([0.0, low]), torch.tensor([1.0, high]), AFFINE)


@each_spec
@given(bounds=bounds, values=st.lists(floats, min_size=1, max_size=20))
def test_quantize_agrees_with_slow_implementation(
    spec: QSpec, bounds: tuple[float, float], values: list[float]
) -> None:
    """Every element equals the integer from Python's numbers, even far outside the range."""
    qparams = params_of(*bounds, spec)
    scale, zero_point = qparams.scale.item(), qparams.zero_point.item()
    expected = [slow_quantize(value, scale, zero_point, spec) for value in values]
    assert quantize(torch.tensor(values), qparams).tolist() == expected


@each_spec
@given(bounds=bounds)
def test_integers_survive_the_round_trip(spec: QSpec, bounds: tuple[float, float]) -> None:
    """Each integer of the range comes back from its real value."""
    qparams = params_of(*bounds, spec)
    integers = torch.linspace(spec.quant_min, spec.quant_max, 256).round()
    stored = integers.to(quantize(torch.zeros(1), qparams).dtype)
    assert torch.equal(quantize(dequantize(stored, qparams), qparams), stored)


def test_error_inside_the_range_is_half_a_step() -> None:
    """Rounding is to the nearest level: the error is at most half a scale, and reaches it."""
    qparams = parameters(0.25, 3)
    x = torch.linspace(-32.0, 31.0, 12601)
    error = (fake_quantize(x, qparams) - x).abs()
    assert error.max().item() == pytest.approx(0.125, rel=1e-3)


def test_storage_dtypes() -> None:
    """int4 is stored as int8, within its own range; other dtypes are stored as they are."""
    x = torch.tensor([-1e9, 1e9])
    stored = {dtype: quantize(x, parameters(1.0, 0, dtype)) for dtype in DType}
    assert stored[DType.INT4].tolist() == [-8, 7]
    assert {dtype: q.dtype for dtype, q in stored.items()} == {
        DType.INT4: torch.int8, DType.INT8: torch.int8, DType.UINT8: torch.uint8,
        DType.INT16: torch.int16, DType.INT32: torch.int32,
    }  # fmt: skip


def test_int32_saturates() -> None:
    """Values beyond int32 saturate at its bounds, although the upper one is not a float32."""
    q = quantize(torch.tensor([3e9, -3e9, 2.0**31, 7.0]), parameters(1.0, 0, DType.INT32))
    assert q.tolist() == [2**31 - 1, -(2**31), 2**31 - 1, 7]


def test_values_that_are_not_finite() -> None:
    """Infinities saturate, and NaN becomes the integer of zero."""
    q = quantize(torch.tensor([math.inf, -math.inf, math.nan]), parameters(0.5, 5))
    assert q.tolist() == [127, -128, 5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fake_quantize_keeps_shape_and_dtype(dtype: torch.dtype) -> None:
    """A strided input of any float dtype keeps its shape and dtype, and has no gradient."""
    x = torch.arange(24, dtype=dtype).reshape(4, 6).t().requires_grad_()
    made_up = fake_quantize(x, parameters(2.0, 0))
    assert (made_up.shape, made_up.dtype, made_up.requires_grad) == (x.shape, dtype, False)
    assert made_up[1].tolist() == [0.0, 8.0, 12.0, 20.0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_per_channel_is_per_tensor_on_each_channel(axis: int) -> None:
    """Element ``c`` of scale and zero point applies to index ``c`` of the axis alone."""
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1)) * 4
    size = x.shape[axis]
    scales, zero_points = torch.linspace(0.01, 0.09, size), torch.arange(size) - 2
    whole = quantize(x, parameters(scales, zero_points, axis=axis))
    for c in range(size):
        channel = quantize(x.select(axis, c), parameters(scales[c], zero_points[c]))
        assert torch.equal(whole.select(axis, c), channel)


def test_per_group_is_per_tensor_on_each_group() -> None:
    """Element ``[r, g]`` applies to the ``g``-th group of columns of row ``r`` alone."""
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(2)) * 4
    scales = torch.linspace(0.3, 0.9, 6).reshape(3, 2)
    zero_points = torch.arange(6).reshape(3, 2) - 3
    qparams = parameters(scales, zero_points, DType.INT4, axis=0, group_size=4)
    whole, back = quantize(x, qparams), fake_quantize(x, qparams)
    for r in range(3):
        for g in range(2):
            one = parameters(scales[r, g], zero_points[r, g], DType.INT4)
            part = (r, slice(4 * g, 4 * g + 4))
            assert torch.equal(whole[part], quantize(x[part], one))
            assert torch.equal(back[part], fake_quantize(x[part], one))


@pytest.mark.parametrize("axis", [None, 1])
def test_bits_are_those_of_the_decomposed_operators(axis: int | None) -> None:
    """Integers and reconstructed values equal those of the operators in converted graphs, at ties too."""
    pytest.importorskip("torch.ao.quantization.fx._decomposed")
    ops = torch.ops.quantized_decomposed
    scale = torch.linspace(0.011, 0.037, 1 if axis is None else 7)
    # Halfway between two integers, where the last bit of each product decides.
    x = (torch.arange(-300.0, 300.0)[:, None, None] + 0.5) * scale[:, None]
    zero_point = torch.arange(len(scale)) - 3
    if axis is None:
        qparams = parameters(scale, zero_point)
        given_ = (scale.item(), zero_point.item(), -128, 127, torch.int8)
        q = ops.quantize_per_tensor(x, *given_)
        back = ops.dequantize_per_tensor(q, *given_)
    else:
        qparams = parameters(scale, zero_point, axis=axis)
        listed = (scale, zero_point, axis, -128, 127, torch.int8)
        q = ops.quantize_per_channel(x, *listed)
        back = ops.dequantize_per_channel(q, *listed)
    assert torch.equal(quantize(x, qparams), q)
    assert torch.equal(dequantize(q, qparams), back)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param({"scale": torch.tensor(0.0)}, "normal positive float32", id="zero scale"),
        pytest.param({"scale": torch.tensor(1e-40)}, "normal positive float32", id="denormal scale"),
        pytest.param({"scale": torch.tensor(math.inf)}, "normal positive float32", id="infinite scale"),
        pytest.param({"scale": torch.tensor(math.nan)}, "normal positive float32", id="NaN scale"),
        pytest.param({"scale": torch.tensor(1.0).half()}, "float32 or float64", id="half scale"),
        pytest.param({"zero_point": torch.tensor(128)}, "every element from -128 to 127", id="zero point"),
        pytest.param({"zero_point": torch.tensor(0.0)}, "int32 or int64", id="float zero point"),
        pytest.param({"zero_point": torch.tensor([0, 0])}, "equal shapes", id="unequal shapes"),
        pytest.param({"axis": 0}, "one dimension per channel", id="axis without channels"),
        pytest.param({"group_size": 4}, "no group size", id="group size without axis"),
        pytest.param({"quant_max": 200}, "inside -128 to 127", id="range beyond dtype"),
    ],
)
def test_contradictory_parameters_are_refused(changes: dict[str, object], text: str) -> None:
    """Parameters that no kernel can apply are refused when they are created."""
    fields = {
        "scale": torch.tensor(1.0), "zero_point": torch.tensor(0),
        "quant_min": -128, "quant_max": 127, "dtype": DType.INT8,
    }  # fmt: skip
    QParams(**fields)
    with pytest.raises(ValueCheckError, match=text):
        QParams(**(fields | changes))


@pytest.mark.parametrize(
    ("shape", "qparams", "text"),
    [
        ((4, 3), parameters(torch.ones(3), torch.zeros(3).long(), axis=0), "3 elements along axis 0"),
        ((3,), parameters(torch.ones(3), torch.zeros(3).long(), axis=1), "3 elements along axis 1"),
        (
            (2, 12),
            parameters(torch.ones(2, 2), torch.zeros(2, 2).long(), axis=0, group_size=4),
            r"\[2, 8\]: 2 rows of 2 groups of 4",
        ),
    ],
    ids=["channels", "axis", "groups"],
)
def test_tensor_that_does_not_fit_is_refused(shape: tuple[int, ...], qparams: QParams, text: str) -> None:
    """A tensor whose shape contradicts the parameters is refused instead of broadcast."""
    with pytest.raises(ValueCheckError, match=text):
        quantize(torch.zeros(shape), qparams)


def test_sqnr_of_known_noise() -> None:
    """A hundredth of the amplitude as noise is 40 dB, whatever the unit."""
    reference = torch.randn(1000, generator=torch.Generator().manual_seed(4))
    for unit in (1e-12, 1.0, 1e12):
        assert sqnr_db(reference * unit, reference * unit * 1.01) == pytest.approx(40.0, abs=0.01)


@pytest.mark.parametrize(
    ("reference", "approximation", "expected"),
    [
        pytest.param([1.0, 2.0], [1.0, 2.0], math.inf, id="equal"),
        pytest.param([0.0, 0.0], [0.0, 0.0], math.inf, id="both zero"),
        pytest.param([], [], math.inf, id="empty"),
        pytest.param([0.0, 0.0], [0.0, 1.0], -math.inf, id="no signal"),
        pytest.param([1.0, 2.0], [1.0, math.nan], -math.inf, id="NaN in the approximation"),
        pytest.param([1.0, math.nan], [1.0, 2.0], -math.inf, id="NaN in the reference"),
        pytest.param([1.0, math.inf], [1.0, -math.inf], -math.inf, id="opposite infinities"),
        pytest.param([10.0, math.nan, math.inf], [11.0, math.nan, math.inf], 20.0, id="NaN in both"),
    ],
)
def test_sqnr_is_always_defined(reference: list[float], approximation: list[float], expected: float) -> None:
    """No signal, no noise and elements that are not finite give a number, never NaN."""
    assert sqnr_db(torch.tensor(reference), torch.tensor(approximation)) == pytest.approx(expected)


def test_sqnr_of_unequal_shapes_is_refused() -> None:
    """Shapes that would broadcast are refused."""
    with pytest.raises(ValueCheckError, match=r"shapes \[2\] and \[1, 2\]"):
        sqnr_db(torch.zeros(2), torch.zeros(1, 2))
