"""Expectations from TOML: what an entry needs, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

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
    held = read.tolerance("numbers/golden/relu/int8")
    assert held is not None
    assert held.lsb == 1
    assert read.tolerance("numbers/qdq/relu/int8") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[expected]]\ncase = "a"\n', "without reason"),
        ('[[expected]]\ncase = "a"\nreason = " "\n', "a text that says why"),
        ('[[expected]]\ncase = "a"\nreason = "b"\nurl = "c"\n', "the entry"),
        ('[[tolerance]]\ncase = "a"\nreason = "b"\n', "one of them or both"),
        ('[[tolerance]]\ncase = "a"\nreason = "b"\nlsb = -1\n', "one of them or both"),
        ("[tolerances]\n", "the tables tolerances"),
        ("[[expected\n", "cannot be read"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    """The entry and what is missing of it."""
    with pytest.raises(QuanthostError, match=message):
        _read(tmp_path, text)


def test_an_entry_that_matches_nothing() -> None:
    """It is told where all cases ran, and not where some were chosen."""
    held = Expectations(expected=[Expectation(case="numbers/*", reason="why")])

    assert held.applied([CASE], all_ran=True)[1] == [
        "the entry 'numbers/*' matches no case: correct or remove it"
    ]
    assert held.applied([CASE], all_ran=False)[1] == []
