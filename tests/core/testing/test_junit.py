"""JUnit XML: suites by area, failures with their text, wrong expectations as failures."""

from __future__ import annotations

from junitparser import JUnitXml

from quanthost.testing import Area, CaseResult, Outcome
from quanthost.testing.junit import write_junit


def case(area: Area, outcome: Outcome, message: str = "") -> CaseResult:
    return CaseResult(
        id=f"{area.value}/x", area=area, subject="x", must="be right", outcome=outcome, message=message,
        rerun="again",
    )  # fmt: skip


def test_document() -> None:
    """A suite for each area with cases; a failure has what must hold, what was seen, and the command."""
    cases = [
        case(Area.NUMBERS, Outcome.FAILED, "off by 2\x00 LSB"),
        case(Area.TABLE, Outcome.PASSED),
        case(Area.TABLE, Outcome.SKIPPED, "not reached"),
        case(Area.TABLE, Outcome.XFAILED, "known"),
    ]

    document = write_junit("toy", cases, ["the entry 'a' matches no case"])

    suites = {suite.name: suite for suite in JUnitXml.fromstring(document.encode())}
    assert list(suites) == ["toy.table", "toy.numbers", "toy.expectations"]
    assert [suites["toy.table"].tests, suites["toy.table"].skipped, suites["toy.table"].failures] == [3, 2, 0]
    (failed,) = suites["toy.numbers"]
    assert failed.result[0].message == "failed: be right"
    assert failed.result[0].text == "off by 2 LSB\n\nagain"
    assert suites["toy.expectations"].failures == 1
