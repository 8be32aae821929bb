"""A comparison of bits in words."""

from __future__ import annotations

from quanthost.debugging.bits import BitComparison, BitDifference
from quanthost.report.bits_text import bits_table, verdict

OUTPUT = BitDifference(name="output", operator="", elements=1200, differing=0, largest=0.0)
CONV = BitDifference(name="conv", operator="aten.conv2d.default", elements=800, differing=2, largest=1.0)


def test_the_verdict() -> None:
    """Equal; the first operator that differs; or none that is shown."""
    equal = BitComparison(inputs=1, outputs=(OUTPUT,), operators=())
    assert verdict(equal) == "All 1,200 integers of 1 tensors are equal."
    differing = BitComparison(inputs=1, outputs=(OUTPUT,), operators=(CONV,))
    assert verdict(differing) == (
        "The first operator that differs is conv (aten.conv2d.default): 2 of 800 integers, by 1 at most."
    )
    hidden = BitComparison(inputs=1, outputs=(CONV,), operators=())
    assert "shows no operator that does" in verdict(hidden)


def test_the_table() -> None:
    """Operators that are equal are left out, unless all are wanted."""
    same = BitDifference(name="relu", operator="aten.relu.default", elements=8, differing=0, largest=0.0)
    comparison = BitComparison(inputs=1, outputs=(OUTPUT,), operators=(CONV, same))

    assert bits_table(comparison).row_count == 2
    assert bits_table(comparison, everything=True).row_count == 3
