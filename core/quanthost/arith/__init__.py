"""Quantization arithmetic in plain torch: affine parameters, range statistics and range estimators."""

from quanthost.arith.affine import (
    SMALLEST_SCALE,
    QParams,
    dequantize,
    fake_quantize,
    qparams_from_range,
    quantize,
    sqnr_db,
)
from quanthost.arith.channel_range import ChannelRange
from quanthost.arith.estimate import choose_range, expected_squared_error
from quanthost.arith.grid import MAX_BINS
from quanthost.arith.sketch import HUGE, RangeSketch

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
