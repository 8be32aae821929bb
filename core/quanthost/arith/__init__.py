"""Quantization arithmetic in plain torch: affine parameters, range statistics, range estimation."""

from quanthost.arith.affine import (
    SMALLEST_SCALE,
    QParams,
    dequantize,
    fake_quantize,
    qparams_from_range,
    quantize,
    sqnr_db,
)
from quanthost.arith.estimate import choose_range, expected_squared_error
from quanthost.arith.sketch import HUGE, MAX_BINS, ChannelRange, RangeSketch

__all__ = [
    "HUGE",
    "MAX_BINS",
    "SMALLEST_SCALE",
    "ChannelRange",
    "QParams",
    "RangeSketch",
    "choose_range",
    "dequantize",
    "expected_squared_error",
    "fake_quantize",
    "qparams_from_range",
    "quantize",
    "sqnr_db",
]
