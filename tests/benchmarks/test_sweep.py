"""The sweep over torch's operators: a fixed part of it, and what its page counts."""

from __future__ import annotations

import pytest
import sweep
from sweep_cases import Place, subjects

pytestmark = pytest.mark.slow

# spread over the alphabet, so that each kind of operator is among them; make sweep takes all
_EVERY = 30
NAMES = sorted(subjects())[::_EVERY]
FLOWS = ("xnnpack_like fp32 alone fast", "xnnpack_like int8_static behind * fast")


@pytest.mark.parametrize("name", NAMES)
def test_an_operator_runs_or_is_refused(name: str) -> None:
    """In float, and behind an integer layer: with the right numbers, or by name before a program."""
    samples = [sample for sample in subjects()[name](1) if "/float32/" in sample.name]
    found = [(s.name, *each) for s in samples for flow in FLOWS for each in sweep.outcomes(s, flow)]

    assert [each for each in found if each[2][0] in sweep.BAD] == []


def test_the_part_is_large_enough() -> None:
    """Operators and modules, and all places of an operator."""
    assert len(NAMES) > 20
    assert {name.partition("/")[0] for name in NAMES} == {"op", "module"}
    (sample,) = [s for s in subjects()["op/tanh"](1) if "/float32/" in s.name]
    assert all(sample.at(place) is not None for place in Place)


def test_what_is_worse_is_listed() -> None:
    """Where upstream or the script runs and the default does not, the page names the sample."""
    flow = "xnnpack_like fp32 alone"
    found = {
        f"{flow} fast": ("refused", "no"),
        f"{flow} upstream": ("runs", ""),
        "script fp32 alone": ("runs", ""),
    }
    entries = [{"done": "op/x", "found": {"op/x/float32/0": found}}]

    summary = sweep._summary(iter(entries))

    assert summary["worse"] == [f"op/x/float32/0 {flow} fast: refused, no"]
    assert summary["operators"][f"{flow} upstream"] == 1
    assert "| op/x | float32: refused | no |" in sweep._page(summary)
