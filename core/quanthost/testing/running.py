"""What is to be run of the suite, and the running of it: here, or a share of it in each of more processes."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
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
from quanthost.testing.cases.samples import variations_of
from quanthost.testing.crash_notes import LastWords
from quanthost.testing.expectations import Expectations
from quanthost.testing.proving.session import Check, Fault, Session, Skip
from quanthost.testing.proving.shrinking import smallest
from quanthost.testing.proving.subject import Subject
from quanthost.testing.results import Area, CaseResult, Outcome
from quanthost.toolchain.quiet import import_quietly

__all__ = ["Ran", "Run", "rerun_line"]

_CHECKS: dict[Area, Callable[[Session], Iterator[Check]]] = {
    Area.HOOKS: hooks.checks,
    Area.TABLE: rows.checks,
    Area.QSPECS: qspecs.checks,
    Area.PLACEMENT: placement.checks,
    Area.NUMBERS: arithmetic.checks,
    Area.PERSISTENCE: persistence.checks,
    Area.NETWORKS: networks.checks,
}
_Told = Callable[[CaseResult], None]


@attrs.frozen(kw_only=True)
class Ran:
    """Cases with their place in the whole suite, and figures by name."""

    cases: tuple[tuple[tuple[int, ...], CaseResult], ...]
    figures: tuple[tuple[str, str], ...]


@attrs.frozen(kw_only=True)
class Run:
    """What is asked for. ``backend`` is a name where more than one process is to work on it.

    ``patterns`` are ids of cases or globs over them, none for all.
    """

    backend: str | object
    areas: tuple[Area, ...]
    full: bool
    expectations: Expectations
    patterns: tuple[str, ...]
    policy: Policy | None

    def on(self, subject: Subject, jobs: int, told: _Told) -> Ran:
        """Run all, in so many processes, of which this is one; each has its own programs."""
        with _one_thread():
            return self._share(subject, 0, 1, told) if jobs == 1 else self._together(subject, jobs, told)

    def _together(self, subject: Subject, jobs: int, told: _Told) -> Ran:
        # not forked: threads of torch and of the runtime do not survive that
        with ProcessPoolExecutor(
            jobs - 1, mp_context=get_context("spawn"), initializer=import_quietly, initargs=(__name__,)
        ) as pool:
            others = [(share, pool.submit(_elsewhere, self, share, jobs)) for share in range(1, jobs)]
            parts = [self._share(subject, 0, jobs, told)]
            for share, other in others:
                try:
                    part = other.result()
                except BrokenProcessPool as error:
                    raise ProgramError(
                        f"the process with share {share} of {jobs} was ended", stage="check-backend",
                        needed="programs that run, or are refused with an error", plugin=subject.name,
                        remedy="look at what it ran, which it said last; with too little memory, take -j 1",
                    ) from error  # fmt: skip
                for _, case in part.cases:
                    told(case)
                parts.append(part)
        return _joined(parts)

    def _share(self, subject: Subject, share: int, shares: int, told: _Told) -> Ran:
        """Subjects, a row or hook, each with all its cases: these have programs in common."""
        _spend_warning()
        with LastWords() as words:
            return self._with(words, subject, share, shares, told)

    def _with(self, words: LastWords, subject: Subject, share: int, shares: int, told: _Told) -> Ran:
        rows = _owners({row.name: _weight(row) for row in subject.table or ()}, shares)
        session = Session(
            subject, full=self.full, expectations=self.expectations, wants=_wants(self.patterns),
            asks=lambda kind: _may_have(kind, self.patterns),
            owns=lambda row: rows[row] == share, runs=words.say,
        )  # fmt: skip
        checks = [
            check for area in self.areas if _may_have(area.value, self.patterns)
            for check in (*_CHECKS[area](session), *without_table.checks(session, area))
            if _is_chosen(check.id, self.patterns)
        ]  # fmt: skip
        # what is no row's is made in each process: all of them come to the same shares
        others = Counter(check.subject for check in checks if check.subject not in rows)
        owners = {**_owners(others, shares), **rows}
        mine = [check for check in checks if owners[check.subject] == share]
        session.plan(trial for check in mine for trial in check.trials)
        places = self._places(subject, checks)
        cases = []
        for check in mine:
            case = _judged(session, check)
            (marked,), _ = self.expectations.applied([case], all_ran=False)
            told(marked)
            cases.append((places[check.id], case))
        return _joined([Ran(cases=tuple(cases), figures=tuple(session.figures))])

    def _places(self, subject: Subject, checks: Sequence[Check]) -> dict[str, tuple[int, ...]]:
        """Where each case stands among those of all shares: by area, recipe, row, and as they were made."""
        areas = {area: number for number, area in enumerate(self.areas)}
        recipes = {recipe.name: number for number, recipe in enumerate(subject.info.recipes)}
        rows = {row.name: number for number, row in enumerate(subject.table or ())}
        counts: Counter[bool] = Counter()
        places: dict[str, tuple[int, ...]] = {}
        for check in checks:
            # a share has all cases of a row, and those of no row are the same in each
            is_row = check.subject in rows
            counts[is_row] += 1
            recipe = recipes.get(check.id.rpartition("/")[2], -1)
            row = rows.get(check.subject, len(rows))
            places[check.id] = (areas[check.area], recipe, row, counts[is_row])
        return places


def _joined(parts: Sequence[Ran]) -> Ran:
    """All of them in one, in order."""
    return Ran(
        cases=tuple(sorted((each for part in parts for each in part.cases), key=lambda each: each[0])),
        figures=tuple(sorted(each for part in parts for each in part.figures)),
    )


def _weight(row: Row) -> int:
    """About how much work the cases of a row are."""
    return sum(1 for _ in variations_of(row)) * len(row.kernels)


def _owners(weights: Mapping[str, int], shares: int) -> dict[str, int]:
    """Which share has a subject: one after the other, the heaviest first, to the one with least."""
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
    """Torch says once in a process that an even window with ``padding="same"`` costs a copy: here to nobody.

    The catalogue has such a window, and a graph's operator would write it to the process's standard error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        functional.conv1d(torch.zeros(1, 1, 4), torch.zeros(1, 1, 2), padding="same")


@_one_thread()
def _elsewhere(run: Run, share: int, shares: int) -> Ran:
    try:
        return run._share(Subject.of(run.backend, run.policy), share, shares, _while_awaited)
    except _Orphaned:
        # the pool would wait for more work from a process that is gone
        os._exit(1)


class _Orphaned(BaseException):
    """The process that waits for this one was killed: nobody reads what is found."""


def _while_awaited(_: CaseResult) -> None:
    first = parent_process()
    if first is not None and not first.is_alive():
        raise _Orphaned


def _is_chosen(case: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(case == p or fnmatch.fnmatchcase(case, p) for p in patterns)


def _may_have(kind: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern can match a case of an area, or of a kind in it as ``"table/pair"``.

    Its first parts say so, up to a star, which may reach beyond its part.
    """
    count = len(kind.split("/"))
    heads = ["/".join(pattern.split("/")[:count]) for pattern in patterns]
    return not heads or any(fnmatch.fnmatchcase(kind, re.sub(r"\*.*", "*", head)) for head in heads)


def _wants(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a row, operator or network may be in a chosen case.

    It stands third in the ids, joined by ``+``; a network second. A star may reach beyond its part.
    """
    split = [pattern.split("/") for pattern in patterns]
    places = [1 if parts[0] == Area.NETWORKS.value else 2 for parts in split]
    named = [parts[place] if len(parts) > place else "*" for parts, place in zip(split, places)]
    names = [re.sub(r"\*.*", "*", name) for each in named for name in each.split("+")]
    return lambda row: not names or any(fnmatch.fnmatchcase(row, name) for name in names)


def rerun_line(backend: str, case: str, *, full: bool) -> str:
    """The command that runs one case again."""
    quoted = f"'{case}'" if any(c in case for c in " *?[](),;&|<>=") else case
    return f"quanthost check-backend {backend} --only {quoted}" + (" --full" if full else "")


def _judged(session: Session, check: Check) -> CaseResult:
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
