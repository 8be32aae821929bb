"""Qspecs: contradictions are refused with the field and what was needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import (
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Granularity,
    QSpec,
    RangeEstimator,
    SharedQSpec,
    Timing,
)

INT8 = QSpec(dtype=DType.INT8)
CHANNELS = QSpec(dtype=DType.INT8, granularity=Granularity.PER_CHANNEL, axis=0)
SIGMOID = FixedQSpec(dtype=DType.UINT8, scale=1 / 256, zero_point=0)


@pytest.mark.parametrize(
    ("dtype", "bits", "low", "high"),
    [
        (DType.INT4, 4, -8, 7),
        (DType.INT8, 8, -128, 127),
        (DType.UINT8, 8, 0, 255),
        (DType.INT16, 16, -32768, 32767),
        (DType.INT32, 32, -(2**31), 2**31 - 1),
    ],
    ids=lambda value: value.value if isinstance(value, DType) else None,
)
def test_dtype_range(dtype: DType, bits: int, low: int, high: int) -> None:
    """Each dtype has the range of its bits, which is a qspec's default."""
    assert (dtype.bits, dtype.minimum, dtype.maximum) == (bits, low, high)
    for spec in (QSpec(dtype=dtype), DerivedQSpec(sources=("a",), dtype=dtype)):
        assert (spec.quant_min, spec.quant_max) == (low, high)


def test_given_range_is_kept() -> None:
    """An explicit bound stays, even 0; the other is the dtype's."""
    assert (QSpec(dtype=DType.INT8, quant_min=0).quant_min, INT8.quant_min) == (0, -128)
    assert QSpec(dtype=DType.INT8, quant_max=0).quant_max == 0
    assert QSpec(dtype=DType.INT8, quant_min=-127).quant_max == 127


@pytest.mark.parametrize(
    ("low", "high"), [(-1000, 1000), (-129, 127), (-128, 128), (5, 5), (6, 5)], ids=lambda bound: str(bound)
)
@pytest.mark.parametrize(
    "make",
    [
        lambda low, high: QSpec(dtype=DType.INT8, quant_min=low, quant_max=high),
        lambda low, high: FixedQSpec(dtype=DType.INT8, scale=1, zero_point=0, quant_min=low, quant_max=high),
        lambda low, high: DerivedQSpec(sources=("a",), dtype=DType.INT8, quant_min=low, quant_max=high),
    ],
    ids=["own", "fixed", "derived"],
)
def test_range_outside_the_dtype(make: Callable[[int, int], object], low: int, high: int) -> None:
    """A range that exceeds the dtype, or has at most one value, is refused."""
    with pytest.raises(ValueCheckError, match=f"the range {low} to {high} for int8") as caught:
        make(low, high)
    assert caught.value.value == (low, high)
    assert caught.value.needed == "quant_min < quant_max inside -128 to 127"


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        (QSpec, {"dtype": "int8"}, r"'int8' of type str\n.*needed: DType\n.*where:  QSpec.dtype"),
        (FixedQSpec, {"dtype": None, "scale": 1, "zero_point": 0}, r"needed: DType\n.*FixedQSpec.dtype"),
        (DerivedQSpec, {"sources": ("a",), "dtype": 8}, r"needed: DType\n.*DerivedQSpec.dtype"),
        (QSpec, {"dtype": DType.INT8, "quant_min": 0.5}, r"needed: int\n.*QSpec.quant_min"),
        (QSpec, {"dtype": DType.INT8, "quant_max": True}, r"needed: int\n.*QSpec.quant_max"),
        (QSpec, {"dtype": DType.INT8, "granularity": "per_tensor"}, "QSpec.granularity"),
        (QSpec, {"dtype": DType.INT8, "symmetry": None}, "QSpec.symmetry"),
        (QSpec, {"dtype": DType.INT8, "timing": "static"}, "QSpec.timing"),
        (QSpec, {"dtype": DType.INT8, "estimator": Estimator.MSE}, "QSpec.estimator"),
        (FixedQSpec, {"dtype": DType.INT8, "scale": "1", "zero_point": 0}, "FixedQSpec.scale"),
        (FixedQSpec, {"dtype": DType.INT8, "scale": True, "zero_point": 0}, "FixedQSpec.scale"),
        (FixedQSpec, {"dtype": DType.INT8, "scale": 1, "zero_point": 0.0}, "FixedQSpec.zero_point"),
        (DerivedQSpec, {"sources": "input"}, r"'input' of type str\n.*needed: a tuple"),
        (DerivedQSpec, {"sources": ("In",)}, "the name 'In'"),
        (SharedQSpec, {"source": ""}, r"the name ''\n.*\n.*SharedQSpec.source"),
        (RangeEstimator, {"kind": "mse"}, r"needed: Estimator\n.*RangeEstimator.kind"),
    ],
)
def test_field_of_the_wrong_type(kind: type, fields: dict[str, Any], problem: str) -> None:
    """A string instead of an enum, or a bool instead of a number, is refused with its field."""
    with pytest.raises(ValueCheckError, match=problem):
        kind(**fields)


@pytest.mark.parametrize(
    ("granularity", "axis"),
    [
        (Granularity.PER_TENSOR, 0),
        (Granularity.PER_TOKEN, 0),
        (Granularity.PER_CHANNEL, None),
        (Granularity.PER_CHANNEL, -1),
        (Granularity.PER_GROUP, None),
    ],
)
def test_axis_exactly_where_there_are_channels(granularity: Granularity, axis: int | None) -> None:
    """A needless or missing axis is refused; axis 0 is an axis."""
    dynamic = granularity is Granularity.PER_TOKEN
    with pytest.raises(ValueCheckError, match=f"axis={axis} with {granularity.value}\n.*axis >= 0 if and"):
        QSpec(
            dtype=DType.INT8,
            granularity=granularity,
            axis=axis,
            group_size=32 if granularity is Granularity.PER_GROUP else None,
            timing=Timing.DYNAMIC if dynamic else Timing.STATIC,
        )
    assert CHANNELS.axis == 0


@pytest.mark.parametrize(
    ("granularity", "size"),
    [(Granularity.PER_GROUP, None), (Granularity.PER_GROUP, 0), (Granularity.PER_CHANNEL, 32)],
)
def test_group_size_exactly_where_there_are_groups(granularity: Granularity, size: int | None) -> None:
    """Only groups have a group size, and it is positive."""
    with pytest.raises(ValueCheckError, match=f"group_size={size} with {granularity.value}"):
        QSpec(dtype=DType.INT4, granularity=granularity, axis=0, group_size=size)
    grouped = QSpec(dtype=DType.INT4, granularity=Granularity.PER_GROUP, axis=0, group_size=32)
    assert grouped.group_size == 32


@pytest.mark.parametrize(
    ("timing", "fields"),
    [
        (Timing.DYNAMIC, {"granularity": Granularity.PER_CHANNEL, "axis": 0}),
        (Timing.DYNAMIC, {"granularity": Granularity.PER_GROUP, "axis": 0, "group_size": 8}),
        (Timing.STATIC, {"granularity": Granularity.PER_TOKEN}),
    ],
    ids=["dynamic_channels", "dynamic_groups", "static_tokens"],
)
def test_timing_that_no_range_can_have(timing: Timing, fields: dict[str, Any]) -> None:
    """Channels need a static range, tokens a dynamic one."""
    with pytest.raises(ValueCheckError, match=f"a {timing.value} range {fields['granularity'].value}"):
        QSpec(dtype=DType.INT8, timing=timing, **fields)


def test_dynamic_ranges() -> None:
    """A dynamic range is per tensor or per token."""
    for granularity in (Granularity.PER_TENSOR, Granularity.PER_TOKEN):
        spec = QSpec(dtype=DType.INT8, timing=Timing.DYNAMIC, granularity=granularity)
        assert spec.granularity is granularity


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")], ids=str)
def test_scale_that_is_none(scale: float) -> None:
    """A scale is finite and above zero."""
    with pytest.raises(ValueCheckError, match=f"the scale {scale}\n.*a finite number above zero"):
        FixedQSpec(dtype=DType.INT8, scale=scale, zero_point=0)


@pytest.mark.parametrize("zero_point", [-1, 256])
def test_zero_point_outside_the_range(zero_point: int) -> None:
    """The zero point lies in the range, including its ends."""
    assert attrs.evolve(SIGMOID, zero_point=255).zero_point == 255
    with pytest.raises(ValueCheckError, match=f"the zero point {zero_point}\n.*an integer from 0 to 255"):
        FixedQSpec(dtype=DType.UINT8, scale=1, zero_point=zero_point)


def test_derived_without_a_source() -> None:
    """A derived qspec needs at least one source."""
    with pytest.raises(ValueCheckError, match=r"no source\n.*captures whose scales are multiplied"):
        DerivedQSpec(sources=())


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        (Estimator.PERCENTILE, {}, "percentile=None for the estimator percentile"),
        (Estimator.MSE, {"percentile": 99.0}, "percentile=99.0 for the estimator mse"),
        (Estimator.MOVING_AVERAGE, {}, "momentum=None for the estimator moving_average"),
        (Estimator.MINMAX, {"momentum": 0.0}, "momentum=0.0 for the estimator minmax"),
        (Estimator.PERCENTILE, {"percentile": 49.9}, r"49\.9\n.*a number from 50\.0 to 100\.0"),
        (Estimator.PERCENTILE, {"percentile": "99"}, "'99'\n.*a number from"),
        (Estimator.MOVING_AVERAGE, {"momentum": 1.5}, r"1\.5\n.*a number from 0\.0 to 1\.0"),
    ],
)
def test_estimator_parameters(kind: Estimator, fields: dict[str, Any], problem: str) -> None:
    """A parameter is set if and only if its estimator uses it; a momentum of 0 counts as set."""
    with pytest.raises(ValueCheckError, match=problem):
        RangeEstimator(kind=kind, **fields)


@pytest.mark.parametrize(
    ("value", "change", "problem"),
    [
        (INT8, {"dtype": DType.UINT8}, "the range -128 to 127 for uint8"),
        (INT8, {"axis": 0}, "axis=0 with per_tensor"),
        (CHANNELS, {"timing": Timing.DYNAMIC}, "a dynamic range per_channel"),
        (SIGMOID, {"quant_min": 1}, "the zero point 0"),
        (SIGMOID, {"scale": 0}, "the scale 0.0"),
        (RangeEstimator(), {"kind": Estimator.PERCENTILE}, "percentile=None"),
        (DerivedQSpec(sources=("a",)), {"sources": []}, "no source"),
        (SharedQSpec(source="a"), {"source": "A"}, "the name 'A'"),
    ],
    ids=lambda part: type(part).__name__ if attrs.has(type(part)) else "",
)
def test_evolve_checks_again(value: Any, change: dict[str, Any], problem: str) -> None:
    """A changed copy is checked like a new value."""
    with pytest.raises(ValueCheckError, match=problem):
        attrs.evolve(value, **change)


def test_values_are_frozen() -> None:
    """A value cannot be changed."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        INT8.quant_min = 0  # type: ignore[misc]
