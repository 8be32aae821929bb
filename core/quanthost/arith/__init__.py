"""Quantization arithmetic in plain torch: affine parameters, range statistics and range estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.exports import lazy_exports

if TYPE_CHECKING:
    from quanthost.arith.affine import SMALLEST_SCALE as SMALLEST_SCALE
    from quanthost.arith.affine import QParams as QParams
    from quanthost.arith.affine import dequantize as dequantize
    from quanthost.arith.affine import fake_quantize as fake_quantize
    from quanthost.arith.affine import qparams_from_range as qparams_from_range
    from quanthost.arith.affine import quantize as quantize
    from quanthost.arith.affine import sqnr_db as sqnr_db
    from quanthost.arith.channel_range import ChannelRange as ChannelRange
    from quanthost.arith.estimate import choose_range as choose_range
    from quanthost.arith.estimate import expected_squared_error as expected_squared_error
    from quanthost.arith.grid import MAX_BINS as MAX_BINS
    from quanthost.arith.sketch import HUGE as HUGE
    from quanthost.arith.sketch import RangeSketch as RangeSketch
else:
    __getattr__, __dir__ = lazy_exports(__name__)
