"""The result of one case: its area, how it ended, and what was seen."""

from __future__ import annotations

import enum

import attrs

__all__ = ["Area", "CaseResult", "Outcome"]


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
    """How a case ended; ``XFAILED`` is an expected failure, ``XPASSED`` a pass where one was expected."""

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

    ``graph`` is the smallest graph that shows a failure, as text; ``rerun`` the command that repeats it.
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
