"""Shows the results of the suite as text: a table by area, failures in full, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from quanthost.report.columns import columns
from quanthost.testing.conformance import Conformance
from quanthost.testing.results import Area, CaseResult, Outcome

__all__ = ["describe_failure", "show_results"]

_HEADS = ("area", "passed", "failed", "expected", "unexpected", "skipped", "seconds")
_OUTCOMES = (Outcome.PASSED, Outcome.FAILED, Outcome.XFAILED, Outcome.XPASSED, Outcome.SKIPPED)


def show_results(conformance: Conformance) -> RenderableType:
    """All results; 80 columns are enough."""
    parts: list[RenderableType] = [
        columns(_HEADS, _build_rows(conformance), numeric=_HEADS[1:], whole=_HEADS[:1])
    ]
    parts.extend(Text(text) for text in _list_skips(conformance))
    if conformance.figures:
        parts.append(Text(""))
        parts.append(columns(("figure", "value"), conformance.figures))
    parts.extend(Text(f"\n{describe_failure(case)}") for case in conformance.failures())
    parts.extend(Text(f"\nwrong expectation: {problem}") for problem in conformance.problems)
    parts.append(Text(f"\n{conformance.summary}", style="bold green" if conformance.conforms else "bold red"))
    return Group(*parts)


def _build_rows(conformance: Conformance) -> Iterator[list[str]]:
    for area in Area:
        counts = conformance.counts(area)
        if not counts:
            continue
        seconds = sum(case.seconds for case in conformance.cases if case.area is area)
        yield [area.value, *(str(counts[o] or "") for o in _OUTCOMES), f"{seconds:.1f}"]


def _list_skips(conformance: Conformance) -> Iterator[str]:
    """The reasons why cases were skipped, each once."""
    reasons = Counter(case.message for case in conformance.cases if case.outcome is Outcome.SKIPPED)
    if reasons:
        yield "\nskipped:"
    for reason, count in reasons.most_common():
        yield f"  {count} × {reason}"


def describe_failure(case: CaseResult) -> str:
    """A failure in full: what must hold, what was seen, the smallest graph, and the command to repeat it."""
    lines = [f"{case.outcome.value}: {case.id}", f"  about:     {case.subject}", f"  must hold: {case.must}"]
    lines.append("  seen:      " + case.message.replace("\n", "\n             "))
    if case.graph:
        lines.append("  graph:")
        lines.extend(f"    {line}" for line in case.graph.splitlines())
    lines.append(f"  again:     {case.rerun}")
    return "\n".join(lines)
