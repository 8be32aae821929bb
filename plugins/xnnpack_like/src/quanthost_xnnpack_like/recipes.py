"""The recipes of ``xnnpack_like``: how each role is quantized for the delegate's kernels."""

from __future__ import annotations

from quanthost.api import (
    DType,
    Estimator,
    Granularity,
    Kernel,
    QSpec,
    RangeEstimator,
    Recipe,
    ScaleFormat,
    Symmetry,
    Timing,
)

__all__ = ["PER_INPUT", "RECIPES", "WEIGHT_PER_TENSOR"]

_MINMAX = RangeEstimator(kind=Estimator.MINMAX)

ACTIVATION = QSpec(dtype=DType.INT8, estimator=RangeEstimator(kind=Estimator.AUTO))
# the delegate's integer kernels quantize the float bias themselves, by input scale × weight scale
WEIGHT_PER_CHANNEL = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0,
    symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX,
)  # fmt: skip
WEIGHT_PER_TENSOR = QSpec(dtype=DType.INT8, quant_min=-127, symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX)
# a range for each row of the activation, computed when the program runs
PER_TOKEN = QSpec(
    dtype=DType.INT8, granularity=Granularity.PER_TOKEN, timing=Timing.DYNAMIC, estimator=_MINMAX
)
PER_INPUT = QSpec(dtype=DType.INT8, timing=Timing.DYNAMIC, estimator=_MINMAX)
WEIGHT_INT4_GROUP = QSpec(
    dtype=DType.INT4, granularity=Granularity.PER_GROUP, axis=0, group_size=32,
    symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX, scale_format=ScaleFormat.BFLOAT16,
)  # fmt: skip
WEIGHT_ONLY = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0,
    symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX,
)  # fmt: skip

RECIPES = (
    Recipe(
        name="int8_static", kernel=Kernel.STATIC, activation=ACTIVATION, weight=WEIGHT_PER_CHANNEL,
        summary="int8 activations with calibrated ranges, int8 weights with a scale per channel",
    ),
    Recipe(
        name="int8_static_per_tensor", kernel=Kernel.STATIC, activation=ACTIVATION, weight=WEIGHT_PER_TENSOR,
        summary="as int8_static, one scale per weight tensor",
    ),
    Recipe(
        name="int8_dynamic", kernel=Kernel.DYNAMIC, activation=PER_TOKEN, weight=WEIGHT_PER_CHANNEL,
        summary="int8 weights per channel, activations quantized when the program runs; no calibration",
    ),
    Recipe(
        name="int4_group_dynamic", kernel=Kernel.DYNAMIC, activation=PER_TOKEN, weight=WEIGHT_INT4_GROUP,
        summary="int4 weights of linear layers in groups of 32, activations quantized at run time",
    ),
    Recipe(
        name="int8_weight_only", kernel=Kernel.WEIGHT_ONLY, weight=WEIGHT_ONLY,
        summary="int8 weights of embeddings and linear layers, float arithmetic in the runtime's kernels",
    ),
    Recipe(name="fp32", kernel=Kernel.FLOAT, summary="no quantization; float kernels of the delegate"),
)  # fmt: skip
