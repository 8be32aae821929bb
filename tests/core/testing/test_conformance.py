"""The results of a run: counted, summed up, and written as JSON."""

from __future__ import annotations

import json

import attrs

from quanthost.testing import Area, CaseResult, Conformance, Outcome

CASE = CaseResult(
    id="table/single/relu/int8", area=Area.TABLE, subject="relu", must="m", outcome=Outcome.PASSED
)


def build(*outcomes: Outcome, problems: tuple[str, ...] = ()) -> Conformance:
    cases = tuple(attrs.evolve(CASE, outcome=outcome) for outcome in outcomes)
    return Conformance(backend="toy", version="0.1", full=False, cases=cases, problems=problems)


def test_what_conforms() -> None:
    """Skips and expected failures do not count; unexpected passes and wrong expectations do."""
    assert build(Outcome.PASSED, Outcome.SKIPPED, Outcome.XFAILED).conforms
    assert not build(Outcome.XPASSED).conforms
    assert not build(Outcome.FAILED).conforms
    assert not build(Outcome.PASSED, problems=("matches no case",)).conforms


def test_counts() -> None:
    """By outcome, of an area or of all; the failures are the bad ones."""
    conformance = build(Outcome.PASSED, Outcome.PASSED, Outcome.FAILED)

    assert conformance.counts() == {Outcome.PASSED: 2, Outcome.FAILED: 1}
    assert not conformance.counts(Area.HOOKS)
    assert [case.outcome for case in conformance.failures()] == [Outcome.FAILED]


def test_summary() -> None:
    """Outcomes that there are, wrong expectations, and the set."""
    summary = build(Outcome.PASSED, Outcome.FAILED, problems=("a", "b")).summary

    assert summary == "quanthost conformance | toy 0.1: 1 passed, 1 failed, 2 wrong expectations (quick)"
    assert build().summary == "quanthost conformance | toy 0.1: no cases (quick)"


def test_json() -> None:
    """Each field of the record and of its cases."""
    data = json.loads(build(Outcome.XFAILED).to_json())

    assert data["backend"] == "toy"
    assert data["cases"][0]["id"] == CASE.id
    assert data["cases"][0]["outcome"] == "expected failure"
