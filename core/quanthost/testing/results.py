"""What a run of the suite found: cases with their outcome, counted, and written as text or JSON."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator

import attrs

from quanthost.values.codec import to_json

__all__ = ["Area", "CaseResult", "Conformance", "Outcome"]

FORMAT = 1


class Area(enum.Enum):
    """What a case is about; the first part of its id."""

    HOOKS = "hooks"
    TABLE = "table"
    QSPECS = "qspecs"
    PLACEMENT = "placement"
    NUMBERS = "numbers"
    PERSISTENCE = "persistence"
    NETWORKS = "networks"


class Outcome(enum.Enum):
    """How a case ended; ``XFAILED`` is a failure that was expected, ``XPASSED`` one that did not come."""

    PASSED = "passed"
    FAILED = "failed"
    XFAILED = "expected failure"
    XPASSED = "unexpected pass"
    SKIPPED = "skipped"

    @property
    def is_bad(self) -> bool:
        return self in (Outcome.FAILED, Outcome.XPASSED)


@attrs.frozen(kw_only=True)
class CaseResult:
    """One case: ``subject`` is the row or hook, ``must`` what has to hold, ``message`` what was seen instead.

    ``graph`` is the smallest graph that shows a failure, as text; ``rerun`` the line that runs it again.
    """

    id: str
    area: Area
    subject: str
    must: str
    outcome: Outcome
    message: str = ""
    graph: str = ""
    rerun: str = ""
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class Conformance:
    """All cases of a run, in order. ``problems`` are expectations that are wrong themselves."""

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
        """The cases that let the run fail."""
        return (case for case in self.cases if case.outcome.is_bad)

    def counts(self, area: Area | None = None) -> Counter[Outcome]:
        """Cases by outcome, of one area or of all."""
        return Counter(case.outcome for case in self.cases if area in (None, case.area))

    @property
    def summary(self) -> str:
        """One line as on a badge: ``quanthost conformance | mynpu 0.1.0: 341 passed, 2 failed (quick)``."""
        counts = self.counts()
        told = [f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome]]
        if self.problems:
            told.append(f"{len(self.problems)} wrong expectation" + "s" * (len(self.problems) > 1))
        name = f"{self.backend} {self.version}".strip()
        kind = "full" if self.full else "quick"
        return f"quanthost conformance | {name}: {', '.join(told) or 'no cases'} ({kind})"

    def to_json(self) -> str:
        """Canonical JSON: the fields of this record and of each case."""
        return to_json(self, indent=2)

    def to_junit(self) -> str:
        """JUnit XML: a suite for each area, a case for each case."""
        from quanthost.testing.junit import document

        return document(self)
