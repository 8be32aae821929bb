"""``check_backend``: all cases of a backend, chosen, run and told."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from quanthost.errors import RequestError
from quanthost.host.discovery import Policy
from quanthost.testing.areas import hooks, networks, numbers, persistence, placement, qspecs, table
from quanthost.testing.expectations import Expectation, Expectations
from quanthost.testing.results import Area, CaseResult, Conformance, Outcome
from quanthost.testing.session import Check, Fault, Session, Skip
from quanthost.testing.shrinking import smallest
from quanthost.testing.subject import Subject

__all__ = ["check_backend", "rerun_line"]

_CHECKS: dict[Area, Callable[[Session], Iterator[Check]]] = {
    Area.HOOKS: hooks.checks,
    Area.TABLE: table.checks,
    Area.QSPECS: qspecs.checks,
    Area.PLACEMENT: placement.checks,
    Area.NUMBERS: numbers.checks,
    Area.PERSISTENCE: persistence.checks,
    Area.NETWORKS: networks.checks,
}
_GLOB = "*?["


def check_backend(
    backend: str | object,
    *,
    areas: Iterable[Area | str] | None = None,
    full: bool = False,
    expected: Expectations | Iterable[Expectation] | str | os.PathLike[str] | None = None,
    only: str | Sequence[str] | None = None,
    policy: Policy | None = None,
    told: Callable[[CaseResult], None] = lambda _: None,
) -> Conformance:
    """Run the conformance suite over a backend.

    Args:
        backend: A backend's name, or a plugin object that no distribution registers.
        areas: The areas to run, all of them where ``None``.
        full: Every row at every variation, in every recipe; else the set that takes two minutes.
        expected: Failures that are expected and tolerances that are stated: a TOML file, or entries.
        only: Ids of cases, or globs over them.
        policy: Which plugins may be imported; from ``QUANTHOST_BACKENDS`` where ``None``.
        told: Called with each case when it has ended.

    Raises:
        DiscoveryError: the backend is unknown, blocked or broken, or its manifest is missing or wrong.
        RequestError: an area or a case that does not exist, or a file of expectations that is wrong.
        TableError: two rows of its table contradict each other.
    """
    started = time.perf_counter()
    wanted = _areas(areas)
    patterns = () if only is None else (only,) if isinstance(only, str) else tuple(only)
    expectations = Expectations.of(expected)
    subject = Subject.of(backend, policy)
    session = Session(subject, full=full, expectations=expectations, wants=_wants(patterns))
    checks = [
        check for area in wanted if _may_have(area, patterns) for check in _CHECKS[area](session)
        if _is_chosen(check.id, patterns)
    ]  # fmt: skip
    if patterns and not checks:
        raise RequestError(
            f"no case {' or '.join(patterns)}", needed="the id of a case, or a glob over ids",
            stage="check-backend", plugin=subject.name, value=only,
            remedy="run all cases to see their ids: quanthost check-backend NAME --json FILE"
            + ("" if full else "; some are in the full set alone"),
        )  # fmt: skip
    session.plan(trial for check in checks for trial in check.trials)
    cases = []
    for check in checks:
        case = _run(session, check)
        (marked,), _ = expectations.applied([case], all_ran=False)
        told(marked)
        cases.append(case)
    all_ran = not patterns and len(wanted) == len(Area)
    marked_cases, problems = expectations.applied(cases, all_ran=all_ran)
    return Conformance(
        backend=subject.name, version=subject.version, full=full, cases=tuple(marked_cases),
        problems=tuple(problems), figures=tuple(session.figures), seconds=time.perf_counter() - started,
    )  # fmt: skip


def _areas(given: Iterable[Area | str] | None) -> tuple[Area, ...]:
    if given is None:
        return tuple(Area)
    known = {area.value: area for area in Area}
    found = []
    for item in [given] if isinstance(given, str) else given:
        area = item if isinstance(item, Area) else known.get(item)
        if area is None:
            raise RequestError(
                f"the area {item!r}", needed=f"one of {', '.join(known)}", stage="check-backend",
                remedy="choose one of these", value=item,
            )  # fmt: skip
        found.append(area)
    return tuple(dict.fromkeys(found))


def _is_chosen(case: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(case == p or fnmatch.fnmatchcase(case, p) for p in patterns)


def _may_have(area: Area, patterns: Sequence[str]) -> bool:
    """Whether a pattern can match a case of the area: its first part says so unless it is a glob."""
    firsts = [pattern.partition("/")[0] for pattern in patterns]
    return not firsts or any(fnmatch.fnmatchcase(area.value, first) for first in firsts)


def _wants(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a row or operator may be in a chosen case: it stands third in the ids, joined by ``+``."""
    thirds = [parts[2] if len(parts := pattern.split("/")) > 2 else "*" for pattern in patterns]
    names = [name for third in thirds for name in third.split("+")]
    return lambda row: not names or any(fnmatch.fnmatchcase(row, name) for name in names)


def rerun_line(backend: str, case: str, *, full: bool) -> str:
    """The command that runs one case again."""
    quoted = f"'{case}'" if any(c in case for c in " *?[](),;&|<>=") else case
    return f"quanthost check-backend {backend} --only {quoted}" + (" --full" if full else "")


def _run(session: Session, check: Check) -> CaseResult:
    started = time.perf_counter()
    try:
        verdict = check.judge()
    # what a plugin raises is a finding, not the end of the run
    except (Exception, SystemExit) as error:
        verdict = Fault(message=f"it raised {type(error).__name__}: {error}")
    case = CaseResult(
        id=check.id, area=check.area, subject=check.subject, must=check.must, outcome=Outcome.PASSED,
        rerun=rerun_line(session.subject.name, check.id, full=session.full),
    )  # fmt: skip
    if isinstance(verdict, Skip):
        case = attrs.evolve(case, outcome=Outcome.SKIPPED, message=verdict.reason)
    elif isinstance(verdict, Fault):
        case = attrs.evolve(
            case, outcome=Outcome.FAILED, message=verdict.message, graph=smallest(session, check, verdict)
        )
    return attrs.evolve(case, seconds=time.perf_counter() - started)
