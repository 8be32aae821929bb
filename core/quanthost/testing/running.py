"""Selects conformance cases and runs them, optionally in several processes."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process

import attrs
import torch
from torch.nn import functional

from quanthost.errors import ProgramError
from quanthost.graph.table import Row
from quanthost.host.discovery import Policy
from quanthost.testing.areas import (
    arithmetic,
    hooks,
    networks,
    persistence,
    placement,
    qspecs,
    rows,
    without_table,
)
from quanthost.testing.cases.samples import list_variations
from quanthost.testing.crash_notes import CrashNotes
from quanthost.testing.expectations import Expectations
from quanthost.testing.patterns import Patterns
from quanthost.testing.proving.case import Case, CaseFailure, CaseSkip
from quanthost.testing.proving.selection import Selection
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.shrinking import describe_smallest
from quanthost.testing.proving.subject import Subject
from quanthost.testing.results import Area, CaseResult, Outcome
from quanthost.toolchain.quiet import import_quietly

__all__ = ["SuiteResults", "SuiteRun"]

_DERIVE: dict[Area, Callable[[Session], Iterator[Case]]] = {
    Area.HOOKS: hooks.derive_cases,
    Area.TABLE: rows.derive_cases,
    Area.QSPECS: qspecs.derive_cases,
    Area.PLACEMENT: placement.derive_cases,
    Area.NUMBERS: arithmetic.derive_cases,
    Area.PERSISTENCE: persistence.derive_cases,
    Area.NETWORKS: networks.derive_cases,
}
_Report = Callable[[CaseResult], None]


@attrs.frozen(kw_only=True)
class SuiteResults:
    """Cases with their place in the whole suite, and figures by name."""

    cases: tuple[tuple[tuple[int, ...], CaseResult], ...]
    figures: tuple[tuple[str, str], ...]


@attrs.frozen(kw_only=True)
class SuiteRun:
    """A request to run the suite. With more than one process, ``backend`` must be a name."""

    backend: str | object
    areas: tuple[Area, ...]
    full: bool
    expectations: Expectations
    patterns: Patterns
    policy: Policy | None

    def run(self, subject: Subject, jobs: int, report: _Report) -> SuiteResults:
        """Run all cases in this process and ``jobs - 1`` others; each has its own programs.

        ``report`` is called with each case when it has ended.
        """
        with _one_thread():
            if jobs == 1:
                return self._run_share(subject, 0, 1, report)
            return self._run_processes(subject, jobs, report)

    def _run_processes(self, subject: Subject, jobs: int, report: _Report) -> SuiteResults:
        # not forked: threads of torch and of the runtime do not survive that
        with ProcessPoolExecutor(
            jobs - 1, mp_context=get_context("spawn"), initializer=import_quietly, initargs=(__name__,)
        ) as pool:
            others = [(share, pool.submit(_run_in_process, self, share, jobs)) for share in range(1, jobs)]
            parts = [self._run_share(subject, 0, jobs, report)]
            for share, other in others:
                try:
                    part = other.result()
                except BrokenProcessPool as error:
                    raise ProgramError(
                        f"process {share} of {jobs} ended at once", stage="check-backend",
                        needed="programs that run, or are refused with an error", plugin=subject.name,
                        remedy="look at the samples that it names last; with too little memory, use -j 1",
                    ) from error  # fmt: skip
                for _, case in part.cases:
                    report(case)
                parts.append(part)
        return _merge(parts)

    def _run_share(self, subject: Subject, share: int, shares: int, report: _Report) -> SuiteResults:
        """Run the cases of some subjects: those of one row or hook have programs in common."""
        _spend_warning()
        with CrashNotes() as notes:
            rows = _assign({row.name: _weigh(row) for row in subject.table or ()}, shares)
            selection = Selection(
                subject=subject, full=self.full, includes=self.patterns.may_select_name,
                includes_kind=self.patterns.may_select_kind, owns=lambda row: rows[row] == share,
            )  # fmt: skip
            session = Session(selection, self.expectations, notes.note)
            cases = [
                case for area in self.areas if self.patterns.may_select_kind(area.value)
                for case in (*_DERIVE[area](session), *without_table.derive_cases(session, area))
                if self.patterns.selects(case.id)
            ]  # fmt: skip
            # each process derives the cases that belong to no row, and all assign them to the same shares
            others = Counter(case.subject for case in cases if case.subject not in rows)
            owners = {**_assign(others, shares), **rows}
            own = [case for case in cases if owners[case.subject] == share]
            session.runs.schedule(run for case in own for run in case.runs)
            places = self._place(subject, cases)
            results = []
            for case in own:
                result = judge_case(session, case)
                (marked,), _ = self.expectations.applied([result], all_ran=False)
                report(marked)
                results.append((places[case.id], result))
            return _merge([SuiteResults(cases=tuple(results), figures=tuple(session.figures))])

    def _place(self, subject: Subject, cases: Sequence[Case]) -> dict[str, tuple[int, ...]]:
        """The place of each case in the whole suite: by area, recipe, row, and order of derivation."""
        areas = {area: number for number, area in enumerate(self.areas)}
        recipes = {recipe.name: number for number, recipe in enumerate(subject.info.recipes)}
        rows = {row.name: number for number, row in enumerate(subject.table or ())}
        counts: Counter[bool] = Counter()
        places: dict[str, tuple[int, ...]] = {}
        for case in cases:
            # a share has all cases of a row, and those that belong to no row are the same in each
            is_row = case.subject in rows
            counts[is_row] += 1
            recipe = recipes.get(case.id.rpartition("/")[2], -1)
            row = rows.get(case.subject, len(rows))
            places[case.id] = (areas[case.area], recipe, row, counts[is_row])
        return places


def _merge(parts: Sequence[SuiteResults]) -> SuiteResults:
    """All results in one, in order."""
    return SuiteResults(
        cases=tuple(sorted((each for part in parts for each in part.cases), key=lambda each: each[0])),
        figures=tuple(sorted(each for part in parts for each in part.figures)),
    )


def _weigh(row: Row) -> int:
    """About how much work the cases of a row are."""
    return sum(1 for _ in list_variations(row)) * len(row.kernels)


def _assign(weights: Mapping[str, int], shares: int) -> dict[str, int]:
    """The share of each subject: the heaviest first, each to the share with the least work."""
    loads = [0] * shares
    owners = {}
    for subject, weight in sorted(weights.items(), key=lambda item: -item[1]):
        owners[subject] = loads.index(min(loads))
        loads[owners[subject]] += weight
    return owners


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors of samples are small: threads would wait for one another, and for those of other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _spend_warning() -> None:
    """Trigger and hide torch's one-time warning about an even window with ``padding="same"``.

    The catalogue has such a window, and a graph's operator would write the warning to standard error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        functional.conv1d(torch.zeros(1, 1, 4), torch.zeros(1, 1, 2), padding="same")


@_one_thread()
def _run_in_process(run: SuiteRun, share: int, shares: int) -> SuiteResults:
    try:
        return run._run_share(Subject.load(run.backend, run.policy), share, shares, _check_parent)
    except _ParentGoneError:
        # the pool would wait for more work from a dead process
        os._exit(1)


class _ParentGoneError(BaseException):
    """The process that waits for this one was killed: nobody reads the results."""


def _check_parent(_: CaseResult) -> None:
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise _ParentGoneError


def judge_case(session: Session, case: Case) -> CaseResult:
    """Judge a case; what a plugin raises is a failure of the case, not the end of the run."""
    started = time.perf_counter()
    try:
        judgment = case.judge()
    except (Exception, SystemExit) as error:
        judgment = CaseFailure(message=f"it raised {type(error).__name__}: {error}")
    result = CaseResult(
        id=case.id, area=case.area, subject=case.subject, must=case.must, outcome=Outcome.PASSED,
        rerun=_rerun_command(session.subject.name, case.id, full=session.selection.full),
    )  # fmt: skip
    if isinstance(judgment, CaseSkip):
        result = attrs.evolve(result, outcome=Outcome.SKIPPED, message=judgment.reason)
    elif isinstance(judgment, CaseFailure):
        graph = describe_smallest(session.subject, case, judgment)
        result = attrs.evolve(result, outcome=Outcome.FAILED, message=judgment.message, graph=graph)
    return attrs.evolve(result, seconds=time.perf_counter() - started)


def _rerun_command(backend: str, case: str, *, full: bool) -> str:
    """The command that runs one case again."""
    quoted = f"'{case}'" if any(c in case for c in " *?[](),;&|<>=") else case
    return f"quanthost check-backend {backend} --only {quoted}" + (" --full" if full else "")
