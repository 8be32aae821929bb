"""Lowers and runs samples, many in one program, and keeps their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import attrs

from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.case import SampleRun
from quanthost.testing.proving.flow import SampleResult, run_samples
from quanthost.testing.proving.plans import Plans
from quanthost.testing.proving.programs import Programs
from quanthost.testing.proving.selection import group_alike
from quanthost.testing.proving.splitting import StageFailure, split_on_failure
from quanthost.testing.proving.subject import Subject

__all__ = ["Note", "SampleRuns"]

# samples in one program: enough to share what a program costs, few enough to be split soon
_RUN_TOGETHER = 24

Note = Callable[[str, Iterable[str]], AbstractContextManager[None]]
"""Entered while samples of a recipe run, with the recipe and the names of the samples."""


class SampleRuns:
    """The results of runs: those that are scheduled share programs."""

    def __init__(
        self, subject: Subject, plans: Plans, programs: Programs, note: Note = lambda *_: nullcontext()
    ) -> None:
        self._subject, self._plans, self._programs, self._note = subject, plans, programs, note
        # each run, and whether the golden form is needed beside it
        self._scheduled: dict[SampleRun, bool] = {}
        self._results: dict[SampleRun, SampleResult | StageFailure] = {}

    def schedule(self, runs: Iterable[SampleRun]) -> None:
        """Note runs whose results will be needed, so that they share programs."""
        for run in runs:
            self._scheduled[run] = self._scheduled.get(run, False) or run.golden

    def get(self, run: SampleRun) -> SampleResult | StageFailure:
        """The result of a run; scheduled runs that differ from it in the sample alone run with it."""
        if run not in self._results or (run.golden and not self._scheduled[run]):
            self._results.pop(run, None)
            self.schedule([run])
            alike = [
                other for other in self._scheduled
                if attrs.evolve(run, sample=other.sample) == other and other not in self._results
            ]  # fmt: skip
            for golden in (True, False):
                samples = [other.sample for other in alike if self._scheduled[other] is golden]
                self._execute(attrs.evolve(run, golden=golden), samples)
        return self._results[run]

    def run_alone(self, recipe: str, sample: Sample) -> SampleResult | StageFailure:
        """The result of a sample in its own program."""
        work = partial(self._run, SampleRun(recipe, sample))
        ((_, result),) = split_on_failure([sample], work, 1, "lower")
        return result

    def _execute(self, kind: SampleRun, samples: Sequence[Sample]) -> None:
        """Run samples as ``kind`` is run."""
        # an operator that is refused at one place cannot be kept whole at the others of that program
        accepted, refused = (
            [s for s in samples if self._plans.is_held(kind.recipe, s) is is_held]
            for is_held in (True, False)
        )
        for group in (*group_alike(accepted), *group_alike(refused)):
            for sample, result in split_on_failure(group, partial(self._run, kind), _RUN_TOGETHER, "lower"):
                self._results[attrs.evolve(kind, sample=sample)] = result

    def _run(self, kind: SampleRun, samples: Sequence[Sample]) -> list[SampleResult]:
        with self._note(kind.recipe, [sample.name for sample in samples]):
            return run_samples(
                self._subject, kind.recipe, samples, kind.regime, in_integers=kind.in_integers,
                golden=kind.golden, captured=self._programs.capture(samples, kind.regime),
            )  # fmt: skip
