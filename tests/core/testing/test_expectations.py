"""Expectations from TOML: what an entry needs, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from quanthost.errors import QuanthostError
from quanthost.testing import Area, CaseResult, Expectation, Expectations, Outcome

CASE = CaseResult(
    id="table/single/relu/int8", area=Area.TABLE, subject="relu", must="", outcome=Outcome.FAILED
)


def _read(folder: Path, text: str) -> Expectations:
    path = folder / "conformance.toml"
    path.write_text(text, encoding="utf-8")
    return Expectations.of(path)


def test_a_file(tmp_path: Path) -> None:
    """Entries in order, tolerances by glob."""
    read = _read(
        tmp_path,
        '[[expected]]\ncase = "table/*"\nreason = "why"\nlink = "https://example.org"\n'
        '[[tolerance]]\ncase = "numbers/golden/*"\nlsb = 1\nreason = "rounds up"\n',
    )

    assert read.expected == (Expectation(case="table/*", reason="why", link="https://example.org"),)
    tolerance = read.tolerance("numbers/golden/relu/int8")
    assert tolerance is not None
    assert tolerance.lsb == 1
    assert read.tolerance("numbers/qdq/relu/int8") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[expected]]\ncase = "a"\n', "without reason"),
        ('[[expected]]\ncase = "a"\nreason = " "\n', "needed: a text"),
        ('[[expected]]\ncase = "a"\nreason = "b"\nurl = "c"\n', "the entry"),
        ('[[tolerance]]\ncase = "a"\nreason = "b"\n', "at least one of them"),
        ('[[tolerance]]\ncase = "a"\nreason = "b"\nlsb = -1\n', "at least one of them"),
        ("[tolerances]\n", "the tables tolerances"),
        ("[[expected\n", "cannot be read"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    """The error names the entry and what is missing."""
    with pytest.raises(QuanthostError, match=message):
        _read(tmp_path, text)


def test_an_entry_that_matches_nothing() -> None:
    """It is a problem if all cases ran, and not if only some were selected."""
    expectations = Expectations(expected=[Expectation(case="numbers/*", reason="why")])

    assert expectations.applied([CASE], all_ran=True)[1] == [
        "the entry 'numbers/*' matches no case: correct or remove it"
    ]
    assert expectations.applied([CASE], all_ran=False)[1] == []


def test_expected_failures() -> None:
    """A failure that is expected is marked with its reason; a pass that was expected to fail is too."""
    expectations = Expectations(expected=[Expectation(case="table/*", reason="why", link="there")])
    passed = attrs.evolve(CASE, outcome=Outcome.PASSED)

    (xfailed, xpassed), problems = expectations.applied([CASE, passed], all_ran=True)

    assert (xfailed.outcome, xpassed.outcome) == (Outcome.XFAILED, Outcome.XPASSED)
    assert xfailed.message.startswith("why (there)")
    assert "remove the entry 'table/*'" in xpassed.message
    assert problems == []
