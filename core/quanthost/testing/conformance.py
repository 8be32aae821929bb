"""The results of a run of the suite: counted, summed up in a line, written as JSON or JUnit XML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import attrs

from quanthost.testing.junit import write_junit
from quanthost.testing.results import Area, CaseResult, Outcome
from quanthost.values.codec import to_json

__all__ = ["Conformance"]

FORMAT = 1


@attrs.frozen(kw_only=True)
class Conformance:
    """All cases of a run, in order. ``problems`` are expectations that are themselves wrong."""

    backend: str
    version: str
    full: bool
    cases: tuple[CaseResult, ...]
    problems: tuple[str, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    format: int = FORMAT

    @property
    def conforms(self) -> bool:
        """Whether nothing failed, nothing passed against its expectation, and no expectation is wrong."""
        return not self.problems and not any(case.outcome.is_bad for case in self.cases)

    def failures(self) -> Iterator[CaseResult]:
        """The cases that make the run fail."""
        return (case for case in self.cases if case.outcome.is_bad)

    def counts(self, area: Area | None = None) -> Counter[Outcome]:
        """Cases by outcome, of one area or of all."""
        return Counter(case.outcome for case in self.cases if area in (None, case.area))

    @property
    def summary(self) -> str:
        """One line as on a badge: ``quanthost conformance | mynpu 0.1.0: 341 passed, 2 failed (quick)``."""
        counts = self.counts()
        parts = [f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome]]
        if self.problems:
            parts.append(f"{len(self.problems)} wrong expectation" + "s" * (len(self.problems) > 1))
        name = f"{self.backend} {self.version}".strip()
        kind = "full" if self.full else "quick"
        return f"quanthost conformance | {name}: {', '.join(parts) or 'no cases'} ({kind})"

    def to_json(self) -> str:
        """Canonical JSON: the fields of this record and of each case."""
        return to_json(self, indent=2)

    def to_junit(self) -> str:
        """JUnit XML: a suite for each area, a case for each case."""
        return write_junit(self.backend, self.cases, self.problems)
