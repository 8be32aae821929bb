"""TOSA's profiles against TOSA's reference model: numbers that it made, recorded by ``record_tosa.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from quanthost.arith.rescale import IntegerRescale, Multipliers, rescale
from quanthost.values import TOSA, TOSA_DOUBLE_ROUND, ArithmeticProfile

LOW, HIGH = -(2**15), 2**15 - 1


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    with np.load(Path(__file__).with_name("tosa_rescale.npz")) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files if name != "version"}


@pytest.mark.parametrize(("profile", "rounding"), [(TOSA, "single"), (TOSA_DOUBLE_ROUND, "double")])
def test_rescale(profile: ArithmeticProfile, rounding: str, recorded: dict[str, torch.Tensor]) -> None:
    """Multipliers, shifts and all results of both forms are the model's, at each end and each tie."""
    multipliers = Multipliers.make(profile, recorded["scales"])
    along = multipliers.shaped((-1,))
    accumulators = recorded["accumulators"]
    wanted = recorded[rounding]

    assert torch.equal(multipliers.multiplier, recorded["multipliers"].to(torch.int64))
    assert torch.equal(multipliers.shift, recorded["shifts"].to(torch.int64))
    assert torch.equal(rescale(accumulators, along), wanted)
    exact = IntegerRescale.make(along, low=LOW, high=HIGH, bound=2**31 - 1)
    assert torch.equal(exact(accumulators.to(torch.int64)), wanted.clamp(LOW, HIGH).to(torch.int64))


def test_the_record_tells_the_roundings_apart(recorded: dict[str, torch.Tensor]) -> None:
    """Profiles with the other rounding, or that truncate, differ from the recorded numbers."""
    single, double = recorded["single"], recorded["double"]
    exact = recorded["accumulators"].double() * recorded["scales"]

    assert int((single != double).sum()) > 100
    assert int((single != torch.floor(exact)).sum()) > 1000


@pytest.mark.parametrize("scale", [2.0, 0.75, 2.0**-3])
def test_room(scale: float) -> None:
    """An accumulator that the model calls unpredictable exceeds 32 bits; the one before it does not."""
    multipliers = Multipliers.make(TOSA, torch.tensor([scale], dtype=torch.float64))
    first = 2 ** min(int(multipliers.shift) - 1, 31)

    assert multipliers.room(first) == 2**31
    assert multipliers.room(first - 1) < 2**31
