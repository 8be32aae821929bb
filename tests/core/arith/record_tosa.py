# /// script
# requires-python = ">=3.11"
# dependencies = ["tosa-tools==2026.8.0"]
# ///
"""Writes ``tosa_rescale.npz``: what TOSA's reference model makes of RESCALE, with one rounding and with two.

The package pins numpy and others to versions of its own, so it runs by itself: ``pipx run record_tosa.py``,
or with the package in an environment made for it. ``test_tosa.py`` reads the file.
"""

from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path

import numpy as np
import tosa_reference_model
import tosa_serializer as ts

CHANNELS, ROWS = 192, 48


def fixed_point(scale: float) -> tuple[int, int]:
    """TOSA 1.0, RESCALE: a multiplier from 2^30 to 2^31 - 1, and how far it is shifted down."""
    mantissa, exponent = math.frexp(scale)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    return (multiplier // 2, 30 - exponent) if multiplier == 2**31 else (multiplier, 31 - exponent)


def choose_scales(random: np.random.Generator) -> np.ndarray:
    """Mantissas of all kinds, at both ends of the shifts that RESCALE has (2 to 62) and between them."""
    exponents = random.integers(-31, 30, CHANNELS)
    exponents[:4] = [-31, -31, 29, 29]
    mantissas = random.uniform(0.5, 1.0, CHANNELS)
    mantissas[:48:2] = 0.5
    mantissas[1:48:2] = 1.0 - 2.0**-31
    return np.ldexp(mantissas, exponents)


def choose_accumulators(random: np.random.Generator, scales: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Any accumulators, the extremes, and some next to a tie, within the range of ``apply_scale_32``."""
    most = np.minimum(2**31 - 1, 2.0 ** (shifts - 1) - 1)
    anything = np.round(random.uniform(-1, 1, (ROWS, CHANNELS)) * most)
    ties = np.floor((random.integers(-300, 300, (ROWS, CHANNELS)) + 0.5) / scales)
    beside = np.clip(ties + random.integers(-1, 2, (ROWS, CHANNELS)), -most, most)
    chosen = np.where(random.random((ROWS, CHANNELS)) < 0.5, anything, beside)
    chosen[:4] = np.stack([most, -most, np.zeros(CHANNELS), -np.minimum(most, 1)])
    return chosen.astype(np.int32)


def rescaled(
    accumulators: np.ndarray, multipliers: np.ndarray, shifts: np.ndarray, rounding: int
) -> np.ndarray:
    """int32 results of one RESCALE from int32 to int32, with multipliers along the last dimension."""
    serializer = ts.TosaSerializer("")
    source = serializer.addPlaceholder(list(accumulators.shape), ts.DType.INT32, None)
    constants = [
        serializer.addConst([CHANNELS], ts.DType.INT32, multipliers),
        serializer.addConst([CHANNELS], ts.DType.INT8, shifts),
        serializer.addConst([1], ts.DType.INT32, np.zeros(1, np.int32)),
        serializer.addConst([1], ts.DType.INT32, np.zeros(1, np.int32)),
    ]
    result = serializer.addOutput(list(accumulators.shape), ts.DType.INT32)
    attribute = ts.TosaSerializerAttribute()
    attribute.RescaleAttribute(True, rounding, True, False, False)
    serializer.addOperator(
        ts.Op.RESCALE, [source.name, *(c.name for c in constants)], [result.name], attribute
    )
    outputs, status = tosa_reference_model.run(bytes(serializer.serialize()), [accumulators], verbosity="LOW")
    assert status == tosa_reference_model.GraphStatus.TOSA_VALID, status
    return np.frombuffer(outputs[0], np.int32).reshape(accumulators.shape)


def main() -> None:
    random = np.random.default_rng(0)
    scales = choose_scales(random)
    multipliers, shifts = (np.array(values) for values in zip(*map(fixed_point, scales)))
    accumulators = choose_accumulators(random, scales, shifts)
    single, double = (
        rescaled(accumulators, multipliers.astype(np.int32), shifts.astype(np.int8), rounding)
        for rounding in (ts.RoundingMode.SINGLE_ROUND, ts.RoundingMode.DOUBLE_ROUND)
    )
    np.savez_compressed(
        Path(__file__).with_name("tosa_rescale.npz"),
        version=np.array(importlib.metadata.version("tosa-tools")),
        scales=scales, multipliers=multipliers, shifts=shifts, accumulators=accumulators,
        single=single, double=double,
    )  # fmt: skip
    print(f"{accumulators.size} accumulators, {(single != double).sum()} differ by the second rounding")


if __name__ == "__main__":
    main()
