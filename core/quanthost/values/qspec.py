"""Qspecs: how one tensor is quantized (dtype, range, granularity, symmetry, source of the range)."""

from __future__ import annotations

import enum
import math
from typing import TypeAlias

import attrs

from quanthost.values import checks

__all__ = [
    "AnyQSpec",
    "DType",
    "DerivedQSpec",
    "Estimator",
    "FixedQSpec",
    "Granularity",
    "QSpec",
    "RangeEstimator",
    "ScaleFormat",
    "SharedQSpec",
    "Symmetry",
    "Timing",
]


class DType(enum.Enum):
    """Integer storage type of a quantized tensor."""

    INT4 = "int4"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    INT32 = "int32"

    @property
    def bits(self) -> int:
        return int(self.value.removeprefix("u").removeprefix("int"))

    @property
    def minimum(self) -> int:
        return 0 if self is DType.UINT8 else -(1 << (self.bits - 1))

    @property
    def maximum(self) -> int:
        return (1 << self.bits) - 1 if self is DType.UINT8 else (1 << (self.bits - 1)) - 1


class Granularity(enum.Enum):
    """How many scales a tensor has.

    One; one per channel; one per group along the last axis of a channel; one per token, that is per vector
    along the last axis (dynamic ranges only).
    """

    PER_TENSOR = "per_tensor"
    PER_CHANNEL = "per_channel"
    PER_GROUP = "per_group"
    PER_TOKEN = "per_token"


class Symmetry(enum.Enum):
    """Whether the zero point is fixed at zero (the middle of an unsigned range) or free."""

    SYMMETRIC = "symmetric"
    AFFINE = "affine"


class ScaleFormat(enum.Enum):
    """How the target stores a scale; scales are rounded to this format, so that the simulation is exact."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Timing(enum.Enum):
    """Whether the range is fixed by calibration or computed from each input."""

    STATIC = "static"
    DYNAMIC = "dynamic"


class Estimator(enum.Enum):
    """How a range is chosen from the calibration statistics.

    ``AUTO`` is ``MINMAX`` or ``MSE``, whichever brings the model's outputs closest to the float model's on
    the calibration sample; without a model to compare with, it is ``MSE``.
    """

    AUTO = "auto"
    MINMAX = "minmax"
    MOVING_AVERAGE = "moving_average"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


@attrs.frozen(kw_only=True)
class RangeEstimator:
    """An estimator with its parameters.

    ``percentile`` (50 to 100) belongs to ``PERCENTILE`` alone: the share of values inside the range.
    ``momentum`` (0 to 1) belongs to ``MOVING_AVERAGE`` alone: the weight of the newest batch.
    """

    kind: Estimator = attrs.field(default=Estimator.MSE, validator=checks.kind(Estimator))
    percentile: float | None = attrs.field(
        default=None,
        converter=attrs.converters.optional(checks.as_float),
        validator=checks.between(50.0, 100.0),
    )
    momentum: float | None = attrs.field(
        default=None, converter=attrs.converters.optional(checks.as_float), validator=checks.between(0.0, 1.0)
    )

    def __attrs_post_init__(self) -> None:
        for field, owner in (
            ("percentile", Estimator.PERCENTILE),
            ("momentum", Estimator.MOVING_AVERAGE),
        ):
            is_set = getattr(self, field) is not None
            if is_set != (self.kind is owner):
                problem = f"{field}={getattr(self, field)!r} for the estimator {self.kind.value}"
                needed = f"{field} if and only if the estimator is {owner.value}"
                checks.refuse(self, field, problem, needed=needed, remedy=f"set or remove {field}")


def _check_range(spec: QSpec | FixedQSpec | DerivedQSpec) -> None:
    low, high, dtype = spec.quant_min, spec.quant_max, spec.dtype
    if not dtype.minimum <= low < high <= dtype.maximum:
        checks.refuse(
            spec, "quant_min", f"the range {low} to {high} for {dtype.value}",
            needed=f"quant_min < quant_max inside {dtype.minimum} to {dtype.maximum}",
            remedy="correct the range or choose a wider dtype", value=(low, high),
        )  # fmt: skip


# Defaults are computed before validators run: a wrong dtype must reach the validator of ``dtype``.
def _dtype_minimum(spec: QSpec | FixedQSpec | DerivedQSpec) -> int:
    return spec.dtype.minimum if isinstance(spec.dtype, DType) else 0


def _dtype_maximum(spec: QSpec | FixedQSpec | DerivedQSpec) -> int:
    return spec.dtype.maximum if isinstance(spec.dtype, DType) else 0


@attrs.frozen(kw_only=True)
class QSpec:
    """A tensor whose scale and zero point are computed from its own values.

    Reconstruction: ``x ≈ (q - zero_point) * scale`` with ``q`` an integer of ``[quant_min, quant_max]``.
    ``scale`` has one element per tensor, ``shape[axis]`` elements per channel, and
    ``shape[0] × shape[1] / group_size`` per group (2-d weights, groups along the last axis).
    An unset range is the whole dtype.
    """

    dtype: DType = attrs.field(validator=checks.kind(DType))
    quant_min: int = attrs.field(
        default=attrs.Factory(_dtype_minimum, takes_self=True), validator=checks.kind(int)
    )
    quant_max: int = attrs.field(
        default=attrs.Factory(_dtype_maximum, takes_self=True), validator=checks.kind(int)
    )
    granularity: Granularity = attrs.field(default=Granularity.PER_TENSOR, validator=checks.kind(Granularity))
    axis: int | None = attrs.field(default=None, validator=checks.kind(int, optional=True))
    group_size: int | None = attrs.field(default=None, validator=checks.kind(int, optional=True))
    symmetry: Symmetry = attrs.field(default=Symmetry.AFFINE, validator=checks.kind(Symmetry))
    timing: Timing = attrs.field(default=Timing.STATIC, validator=checks.kind(Timing))
    estimator: RangeEstimator = attrs.field(factory=RangeEstimator, validator=checks.kind(RangeEstimator))
    scale_format: ScaleFormat = attrs.field(default=ScaleFormat.FLOAT32, validator=checks.kind(ScaleFormat))

    def __attrs_post_init__(self) -> None:
        _check_range(self)
        self._check_axis()
        self._check_group()
        self._check_timing()

    def _check_timing(self) -> None:
        dynamic = self.timing is Timing.DYNAMIC
        static_only = self.granularity in (Granularity.PER_CHANNEL, Granularity.PER_GROUP)
        if not (dynamic and static_only) and not (not dynamic and self.granularity is Granularity.PER_TOKEN):
            return
        checks.refuse(
            self, "timing", f"a {self.timing.value} range {self.granularity.value}",
            needed="per_tensor or per_token with a dynamic range, no per_token with a static one",
            remedy="make the activation per_tensor, or change the timing",
        )  # fmt: skip

    def _check_axis(self) -> None:
        has_channels = self.granularity in (Granularity.PER_CHANNEL, Granularity.PER_GROUP)
        if has_channels == (self.axis is not None) and (self.axis is None or self.axis >= 0):
            return
        checks.refuse(
            self, "axis", f"axis={self.axis!r} with {self.granularity.value}",
            needed="an axis >= 0 if and only if the scheme is per channel or per group",
            remedy="set axis=0 (or the channel's axis), or use per_tensor", value=self.axis,
        )  # fmt: skip

    def _check_group(self) -> None:
        grouped = self.granularity is Granularity.PER_GROUP
        if grouped == (self.group_size is not None) and (self.group_size is None or self.group_size > 0):
            return
        checks.refuse(
            self, "group_size", f"group_size={self.group_size!r} with {self.granularity.value}",
            needed="a group size > 0 if and only if the scheme is per group",
            remedy="set group_size, for example 32, or use per_channel", value=self.group_size,
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class FixedQSpec:
    """A tensor with a known scale and zero point (softmax: 1/256 and the lowest value)."""

    dtype: DType = attrs.field(validator=checks.kind(DType))
    scale: float = attrs.field(converter=checks.as_float, validator=checks.kind(float))
    zero_point: int = attrs.field(validator=checks.kind(int))
    quant_min: int = attrs.field(
        default=attrs.Factory(_dtype_minimum, takes_self=True), validator=checks.kind(int)
    )
    quant_max: int = attrs.field(
        default=attrs.Factory(_dtype_maximum, takes_self=True), validator=checks.kind(int)
    )

    def __attrs_post_init__(self) -> None:
        _check_range(self)
        if not (math.isfinite(self.scale) and self.scale > 0):
            checks.refuse(
                self, "scale", f"the scale {self.scale!r}", needed="a finite number above zero",
                remedy="correct the scale", value=self.scale,
            )  # fmt: skip
        if not self.quant_min <= self.zero_point <= self.quant_max:
            checks.refuse(
                self, "zero_point", f"the zero point {self.zero_point}",
                needed=f"an integer from {self.quant_min} to {self.quant_max}",
                remedy="correct the zero point", value=self.zero_point,
            )  # fmt: skip


@attrs.frozen(kw_only=True)
class DerivedQSpec:
    """A tensor whose scale is the product of the scales of other captures; its zero point is 0.

    A bias is derived from input and weight: ``bias_scale[c] = input_scale × weight_scale[c]``.
    """

    sources: tuple[str, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.identifier())
    )
    dtype: DType = attrs.field(default=DType.INT32, validator=checks.kind(DType))
    quant_min: int = attrs.field(
        default=attrs.Factory(_dtype_minimum, takes_self=True), validator=checks.kind(int)
    )
    quant_max: int = attrs.field(
        default=attrs.Factory(_dtype_maximum, takes_self=True), validator=checks.kind(int)
    )

    def __attrs_post_init__(self) -> None:
        _check_range(self)
        if not self.sources:
            checks.refuse(
                self, "sources", "no source", needed="the captures whose scales are multiplied",
                remedy="name them, for example ('input', 'weight')",
            )  # fmt: skip


@attrs.frozen(kw_only=True)
class SharedQSpec:
    """A tensor that uses the quantization parameters of another capture of the same match."""

    source: str = attrs.field(validator=checks.identifier())


AnyQSpec: TypeAlias = QSpec | FixedQSpec | DerivedQSpec | SharedQSpec
