"""Arithmetic profiles: impossible ones are refused."""

from __future__ import annotations

import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import PROFILES, ArithmeticProfile, Rescaling


def test_each_profile_cites_its_source() -> None:
    """Each profile is listed by its own name, and cites a specification."""
    assert {name: profile.name for name, profile in PROFILES.items()} == {name: name for name in PROFILES}
    assert all(profile.source for profile in PROFILES.values())
    assert {profile.rescaling for profile in PROFILES.values()} == set(Rescaling)


@pytest.mark.parametrize("bits", [7, 65])
def test_register_widths(bits: int) -> None:
    """8 to 64 bits."""
    with pytest.raises(ValueCheckError, match=f"accumulators of {bits} bits"):
        ArithmeticProfile(name="mine", rescaling=Rescaling.GEMMLOWP, accumulator_bits=bits)


def test_double_round_is_tosas() -> None:
    """Only TOSA's rescaling has the operand ``double_round``."""
    with pytest.raises(ValueCheckError, match="double_round with the rescaling gemmlowp"):
        ArithmeticProfile(name="mine", rescaling=Rescaling.GEMMLOWP, double_round=True)
