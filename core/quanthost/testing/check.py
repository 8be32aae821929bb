"""``check_backend``: all cases of a backend, chosen, run and told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence

from quanthost.errors import RequestError
from quanthost.host.discovery import Policy
from quanthost.stages.lowering.timing import cores
from quanthost.testing.cases.samples import variations_of
from quanthost.testing.expectations import Expectation, Expectations
from quanthost.testing.proving.subject import Subject
from quanthost.testing.results import Area, CaseResult, Conformance
from quanthost.testing.running import Run

__all__ = ["check_backend"]

# samples from which on a second process is worth its imports
_MANY = 400
# each process holds programs of its own
_MOST_JOBS = 4


def check_backend(
    backend: str | object,
    *,
    areas: Iterable[Area | str] | None = None,
    full: bool = False,
    expected: Expectations | Iterable[Expectation] | str | os.PathLike[str] | None = None,
    only: str | Sequence[str] | None = None,
    policy: Policy | None = None,
    jobs: int | None = 1,
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
        jobs: Processes that share the cases of a backend that is given by name; ``None`` for as many as the
            machine has cores, up to four, where the backend is large enough to gain. With more than one, a
            script needs its ``if __name__ == "__main__":``, as with ``multiprocessing``.
        told: Called with each case when it has ended, in any order with more than one process.

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
    run = Run(
        backend=backend, areas=wanted, full=full, expectations=expectations, patterns=patterns, policy=policy
    )
    ran = run.on(subject, _jobs(jobs, run, subject), told)
    if patterns and not ran.cases:
        raise RequestError(
            f"no case {' or '.join(patterns)}", needed="the id of a case, or a glob over ids",
            stage="check-backend", plugin=subject.name, value=only,
            remedy="run all cases to see their ids: quanthost check-backend NAME --json FILE"
            + ("" if full else "; some are in the full set alone"),
        )  # fmt: skip
    all_ran = not patterns and len(wanted) == len(Area)
    cases, problems = expectations.applied((case for _, case in ran.cases), all_ran=all_ran)
    return Conformance(
        backend=subject.name, version=subject.version, full=full, cases=tuple(cases),
        problems=tuple(problems), figures=ran.figures, seconds=time.perf_counter() - started,
    )  # fmt: skip


def _jobs(wanted: int | None, run: Run, subject: Subject) -> int:
    if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1):
        raise RequestError(
            f"jobs={wanted!r}", needed="a number of processes from 1, or None", stage="check-backend",
            remedy="leave it out for one process", value=wanted,
        )  # fmt: skip
    if not isinstance(run.backend, str):
        if wanted not in (None, 1):
            raise RequestError(
                f"jobs={wanted} for a plugin object", needed="a backend's name, which each process loads",
                stage="check-backend", plugin=subject.name, value=wanted,
                remedy="leave jobs out, or install the plugin and give its name",
            )  # fmt: skip
        return 1
    if wanted is not None:
        return wanted
    samples = sum(1 for row in subject.table or () if not row.converts for _ in variations_of(row))
    return 1 if run.patterns or samples < _MANY else min(cores(), _MOST_JOBS)


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
