"""``check_backend`` runs the conformance suite over a backend."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence

from quanthost.errors import RequestError
from quanthost.host.discovery import Policy
from quanthost.stages.lowering.timing import cores
from quanthost.testing.cases.samples import list_variations
from quanthost.testing.conformance import Conformance
from quanthost.testing.expectations import Expectation, Expectations
from quanthost.testing.patterns import Patterns
from quanthost.testing.proving.subject import Subject
from quanthost.testing.results import Area, CaseResult
from quanthost.testing.running import SuiteRun

__all__ = ["check_backend"]

# with fewer samples a second process is not worth its imports
_MANY = 400
# each process holds its own programs
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
        areas: The areas to run, ``None`` for all.
        full: Run every row at every variation in every recipe; else the quick set, which takes two minutes.
        expected: Expected failures and stated tolerances: a TOML file, or entries.
        only: Ids of cases, or globs over them.
        policy: Which plugins may be imported; ``None`` for what ``QUANTHOST_BACKENDS`` says.
        jobs: The number of processes, for a backend that is named. ``None`` uses one for each core, at most
            four, if the backend is large enough to gain. With more than one, a script needs
            ``if __name__ == "__main__":``, as with ``multiprocessing``.
        told: Called with each case when it has ended; with more than one process in any order.

    Raises:
        DiscoveryError: the backend is unknown, blocked or broken, or its manifest is missing or wrong.
        RequestError: an area or a case that does not exist, or a wrong file of expectations.
        TableError: two rows of the table contradict each other.
    """
    started = time.perf_counter()
    chosen = _parse_areas(areas)
    patterns = () if only is None else (only,) if isinstance(only, str) else tuple(only)
    expectations = Expectations.of(expected)
    subject = Subject.load(backend, policy)
    run = SuiteRun(
        backend=backend, areas=chosen, full=full, expectations=expectations, patterns=Patterns(patterns),
        policy=policy,
    )  # fmt: skip
    results = run.run(subject, _count_jobs(jobs, run, subject), told)
    if patterns and not results.cases:
        raise RequestError(
            f"no case {' or '.join(patterns)}", needed="the id of a case, or a glob over ids",
            stage="check-backend", plugin=subject.name, value=only,
            remedy="run all cases to see their ids: quanthost check-backend NAME --json FILE"
            + ("" if full else "; some are only in the full set"),
        )  # fmt: skip
    all_ran = not patterns and len(chosen) == len(Area)
    cases, problems = expectations.applied((case for _, case in results.cases), all_ran=all_ran)
    return Conformance(
        backend=subject.name, version=subject.version, full=full, cases=tuple(cases),
        problems=tuple(problems), figures=results.figures, seconds=time.perf_counter() - started,
    )  # fmt: skip


def _count_jobs(jobs: int | None, run: SuiteRun, subject: Subject) -> int:
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
        raise RequestError(
            f"jobs={jobs!r}", needed="a number of processes from 1, or None", stage="check-backend",
            remedy="leave it out for one process", value=jobs,
        )  # fmt: skip
    if not isinstance(run.backend, str):
        if jobs not in (None, 1):
            raise RequestError(
                f"jobs={jobs} for a plugin object", needed="a backend's name, which each process loads",
                stage="check-backend", plugin=subject.name, value=jobs,
                remedy="leave jobs out, or install the plugin and pass its name",
            )  # fmt: skip
        return 1
    if jobs is not None:
        return jobs
    samples = sum(1 for row in subject.table or () if not row.converts for _ in list_variations(row))
    return 1 if run.patterns.patterns or samples < _MANY else min(cores(), _MOST_JOBS)


def _parse_areas(areas: Iterable[Area | str] | None) -> tuple[Area, ...]:
    if areas is None:
        return tuple(Area)
    by_name = {area.value: area for area in Area}
    parsed = []
    for item in [areas] if isinstance(areas, str) else areas:
        area = item if isinstance(item, Area) else by_name.get(item)
        if area is None:
            raise RequestError(
                f"the area {item!r}", needed=f"one of {', '.join(by_name)}", stage="check-backend",
                remedy="choose one of these", value=item,
            )  # fmt: skip
        parsed.append(area)
    return tuple(dict.fromkeys(parsed))
