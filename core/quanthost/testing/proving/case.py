"""A conformance case before it runs, and what judging it can result in."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from quanthost.testing.cases.samples import Regime, Sample
from quanthost.testing.proving.splitting import StageFailure
from quanthost.testing.results import Area
from quanthost.values import Recipe

__all__ = ["Case", "CaseFailure", "CaseSkip", "Judgment", "SampleRun", "fail_if"]


@attrs.frozen(kw_only=True, eq=False)
class CaseFailure:
    """What was seen instead of what must hold, and the sample that shows it."""

    message: str
    sample: Sample | None = None
    recipe: str | None = None


@attrs.frozen
class CaseSkip:
    """Why a case could not be tried."""

    reason: str


Judgment = CaseFailure | CaseSkip | None
"""How a case ended; ``None`` if it passed."""


def fail_if(problem: str | StageFailure | None, recipe: Recipe, sample: Sample) -> CaseFailure | None:
    """A failure of the case with this problem, shown by the sample; ``None`` if there is no problem."""
    if problem is None:
        return None
    return CaseFailure(message=str(problem), sample=sample, recipe=recipe.name)


@attrs.frozen
class SampleRun:
    """One run of a sample: lowered in a recipe and executed.

    With ``in_integers`` its golden integer form is lowered instead. With ``golden`` that form runs beside the
    program; a result with it serves runs without it, so the two are equal.
    """

    recipe: str
    sample: Sample
    regime: Regime = Regime.PLAIN
    in_integers: bool = False
    golden: bool = attrs.field(default=False, eq=False)


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """A case: ``runs`` are lowered before it is judged, together with those of other cases.

    ``subject`` is the row or hook that it is about, ``must`` what has to hold.
    """

    id: str
    subject: str
    must: str
    judge: Callable[[], Judgment]
    runs: tuple[SampleRun, ...] = ()

    @property
    def area(self) -> Area:
        return Area(self.id.partition("/")[0])
