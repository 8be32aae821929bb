"""The recipes of ``int8_reference``: how activations, weights and biases are quantized."""

from __future__ import annotations

from quanthost.api import (
    DerivedQSpec,
    DType,
    Estimator,
    Granularity,
    Kernel,
    QSpec,
    RangeEstimator,
    Recipe,
    Symmetry,
)

__all__ = ["RECIPES", "WEIGHT_PER_TENSOR"]

_MINMAX = RangeEstimator(kind=Estimator.MINMAX)

ACTIVATION_INT8 = QSpec(dtype=DType.INT8)
ACTIVATION_UINT8 = QSpec(dtype=DType.UINT8)
# LiteRT's 16x8 quantization: symmetric, so that products have no zero point
ACTIVATION_INT16 = QSpec(dtype=DType.INT16, quant_min=-32767, symmetry=Symmetry.SYMMETRIC)
WEIGHT_INT4_PER_CHANNEL = QSpec(
    dtype=DType.INT4, granularity=Granularity.PER_CHANNEL, axis=0, symmetry=Symmetry.SYMMETRIC,
    estimator=_MINMAX,
)  # fmt: skip
WEIGHT_INT4_PER_GROUP = QSpec(
    dtype=DType.INT4, granularity=Granularity.PER_GROUP, axis=0, group_size=32,
    symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX,
)  # fmt: skip
WEIGHT_PER_CHANNEL = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0,
    symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX,
)  # fmt: skip
WEIGHT_PER_TENSOR = QSpec(dtype=DType.INT8, quant_min=-127, symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX)
# so that a bias can be added to the int32 sum of products of integers
BIAS = DerivedQSpec(sources=("input", "weight"))

RECIPES = (
    Recipe(
        name="int8_static", kernel=Kernel.STATIC,
        activation=ACTIVATION_INT8, weight=WEIGHT_PER_CHANNEL, bias=BIAS,
        summary="int8 activations with calibrated ranges, int8 weights with a scale per channel",
    ),
    Recipe(
        name="int8_static_per_tensor", kernel=Kernel.STATIC,
        activation=ACTIVATION_INT8, weight=WEIGHT_PER_TENSOR, bias=BIAS,
        summary="as int8_static, one scale per weight tensor",
    ),
    Recipe(
        name="uint8_static", kernel=Kernel.STATIC,
        activation=ACTIVATION_UINT8, weight=WEIGHT_PER_CHANNEL, bias=BIAS,
        summary="as int8_static, with uint8 activations",
    ),
    Recipe(
        name="int4_static", kernel=Kernel.STATIC,
        activation=ACTIVATION_INT8, weight=WEIGHT_INT4_PER_CHANNEL, bias=BIAS,
        summary="int8 activations, int4 weights with a scale per channel",
    ),
    Recipe(
        name="int4_group_static", kernel=Kernel.STATIC,
        activation=ACTIVATION_INT8, weight=WEIGHT_INT4_PER_GROUP,
        summary="int8 activations, int4 weights of linear layers with a scale per 32 of a row",
    ),
    Recipe(
        name="int16_static", kernel=Kernel.STATIC,
        activation=ACTIVATION_INT16, weight=WEIGHT_PER_CHANNEL, bias=BIAS,
        summary="int16 activations around zero, int8 weights with a scale per channel",
    ),
    Recipe(
        name="int8_weight_only", kernel=Kernel.WEIGHT_ONLY, weight=WEIGHT_PER_CHANNEL,
        summary="int8 weights with a scale per channel, float arithmetic; no calibration",
    ),
    Recipe(name="fp32", kernel=Kernel.FLOAT, summary="no quantization"),
)  # fmt: skip
