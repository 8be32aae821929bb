"""Results as text: counts by area, reasons of skips, failures in full."""

from __future__ import annotations

import io

from rich.console import Console

from quanthost.testing import Area, CaseResult, Conformance, Outcome
from quanthost.testing.results_text import describe_failure, show_results


def case(name: str, outcome: Outcome, message: str = "", graph: str = "") -> CaseResult:
    return CaseResult(
        id=f"table/single/{name}/int8", area=Area.TABLE, subject=name, must="be right", outcome=outcome,
        message=message, graph=graph, rerun="the command",
    )  # fmt: skip


def test_failure() -> None:
    """What must hold, what was seen, the graph and the command, each on its lines."""
    text = describe_failure(case("relu", Outcome.FAILED, "line one\nline two", "x = relu(y)"))

    assert text.splitlines() == [
        "failed: table/single/relu/int8",
        "  about:     relu",
        "  must hold: be right",
        "  seen:      line one",
        "             line two",
        "  graph:",
        "    x = relu(y)",
        "  again:     the command",
    ]


def test_all_results() -> None:
    """Only areas with cases; each reason of a skip once; the summary comes last."""
    cases = (
        case("relu", Outcome.PASSED),
        case("add", Outcome.SKIPPED, "not reached"),
        case("mul", Outcome.SKIPPED, "not reached"),
        case("cat", Outcome.FAILED, "wrong"),
    )
    conformance = Conformance(
        backend="toy", version="", full=True, cases=cases, problems=("the entry 'a'",),
        figures=(("joined, int8", "3 of 4"),),
    )  # fmt: skip
    file = io.StringIO()
    Console(width=100, file=file).print(show_results(conformance))
    text = file.getvalue()

    assert "networks" not in text
    assert "2 × not reached" in text
    assert "3 of 4" in text
    assert "failed: table/single/cat/int8" in text
    assert "wrong expectation: the entry 'a'" in text
    assert text.rstrip().endswith("1 passed, 1 failed, 2 skipped, 1 wrong expectation (full)")
