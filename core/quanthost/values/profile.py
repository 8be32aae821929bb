"""Arithmetic profiles: how a target rescales accumulators to the integers of a result."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from quanthost.values import checks

__all__ = [
    "FP32_HALF_EVEN",
    "GEMMLOWP",
    "POWER_OF_TWO",
    "PROFILES",
    "SINGLE_ROUNDING",
    "TOSA",
    "TOSA_DOUBLE_ROUND",
    "ArithmeticProfile",
    "Rescaling",
]


class Rescaling(enum.Enum):
    """How an accumulator is multiplied by a real scale.

    ``FP32_HALF_EVEN``: float32 product, ties to even. The others multiply by an integer and shift:
    ``GEMMLOWP`` rounds twice (high half of the doubled product, then a power of two, ties away from zero),
    ``SINGLE_ROUNDING`` once (ties up), ``FIXED_POINT_32X31`` as TOSA's ``apply_scale_32``,
    ``POWER_OF_TWO`` shifts only (ties up).
    """

    FP32_HALF_EVEN = "fp32_half_even"
    GEMMLOWP = "gemmlowp"
    SINGLE_ROUNDING = "single_rounding"
    FIXED_POINT_32X31 = "fixed_point_32x31"
    POWER_OF_TWO = "power_of_two"


@attrs.frozen(kw_only=True)
class ArithmeticProfile:
    """A target's arithmetic, as data.

    ``double_round`` is TOSA's operand of that name. ``accumulator_bits`` is the width, including the sign, of
    the register that sums products; sums that might overflow it are refused. ``source`` cites the
    specification. ``mean_includes_zero_point``: averages are rounded after the zero point is added, which
    decides ties. ``leaky_relu_places``: the slopes of leaky ReLU are fixed-point numbers with that many
    places, and ties go up; ``None``: leaky ReLU is a table of exact values, like other functions.
    """

    name: str = attrs.field(validator=checks.identifier())
    rescaling: Rescaling = attrs.field(validator=checks.kind(Rescaling))
    double_round: bool = attrs.field(default=False, validator=checks.kind(bool))
    accumulator_bits: int = attrs.field(default=32, validator=checks.kind(int))
    mean_includes_zero_point: bool = attrs.field(default=False, validator=checks.kind(bool))
    leaky_relu_places: int | None = attrs.field(default=None, validator=checks.kind(int, optional=True))
    source: str = attrs.field(default="", validator=checks.kind(str))

    def __attrs_post_init__(self) -> None:
        if self.double_round and self.rescaling is not Rescaling.FIXED_POINT_32X31:
            checks.refuse(
                self, "double_round", f"double_round with the rescaling {self.rescaling.value}",
                needed=f"the rescaling {Rescaling.FIXED_POINT_32X31.value}, whose operand it is",
                remedy="remove it", value=True,
            )  # fmt: skip
        if not 8 <= self.accumulator_bits <= 64:
            checks.refuse(
                self, "accumulator_bits", f"accumulators of {self.accumulator_bits} bits",
                needed="8 to 64 bits, including the sign", remedy="give the width of the target's register",
                value=self.accumulator_bits,
            )  # fmt: skip


FP32_HALF_EVEN = ArithmeticProfile(
    name="fp32_half_even",
    rescaling=Rescaling.FP32_HALF_EVEN,
    mean_includes_zero_point=True,
    leaky_relu_places=8,
    source="XNNPACK, src/qs8-requantization/fp32-scalar-lrintf.c; src/qs8-vlrelu/scalar-select.c.in;"
    " the order of zero point and rounding in averages as its delegate was seen to have it",
)
GEMMLOWP = ArithmeticProfile(
    name="gemmlowp",
    rescaling=Rescaling.GEMMLOWP,
    source="gemmlowp, fixedpoint/fixedpoint.h: SaturatingRoundingDoublingHighMul, RoundingDivideByPOT;"
    " LiteRT, kernels/internal/common.h: MultiplyByQuantizedMultiplier",
)
SINGLE_ROUNDING = ArithmeticProfile(
    name="single_rounding",
    rescaling=Rescaling.SINGLE_ROUNDING,
    source="LiteRT, kernels/internal/common.h: MultiplyByQuantizedMultiplier with TFLITE_SINGLE_ROUNDING",
)
TOSA = ArithmeticProfile(
    name="tosa",
    rescaling=Rescaling.FIXED_POINT_32X31,
    source="TOSA 1.0 specification, apply_scale_32 and RESCALE",
)
TOSA_DOUBLE_ROUND = attrs.evolve(TOSA, name="tosa_double_round", double_round=True)
POWER_OF_TWO = ArithmeticProfile(
    name="power_of_two",
    rescaling=Rescaling.POWER_OF_TWO,
    source="CMSIS-NN, q7 kernels: NN_ROUND(out_shift) added, then an arithmetic shift right",
)
PROFILES: Mapping[str, ArithmeticProfile] = MappingProxyType(
    {p.name: p for p in (FP32_HALF_EVEN, GEMMLOWP, SINGLE_ROUNDING, TOSA, TOSA_DOUBLE_ROUND, POWER_OF_TWO)}
)
"""The profiles of quanthost, by name."""
