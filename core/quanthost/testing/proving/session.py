"""One run of the suite over one backend: what is selected, and what is planned, converted and run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from quanthost.testing.cases.samples import Sample
from quanthost.testing.expectations import Expectations
from quanthost.testing.proving.flow import ConvertedSample, convert_samples
from quanthost.testing.proving.plans import Plans
from quanthost.testing.proving.programs import Programs
from quanthost.testing.proving.row_samples import RowSamples
from quanthost.testing.proving.sample_runs import Note, SampleRuns
from quanthost.testing.proving.selection import PLANNED_TOGETHER, Selection, group_alike
from quanthost.testing.proving.splitting import StageFailure, split_on_failure
from quanthost.values import Recipe

__all__ = ["Session"]


class Session:
    """What all cases of a run share; each part of it is created when first needed.

    ``figures`` are numbers by name that the cases report.
    """

    def __init__(
        self, selection: Selection, expectations: Expectations, note: Note = lambda *_: nullcontext()
    ) -> None:
        self.selection, self.expectations = selection, expectations
        self.subject = selection.subject
        self._programs = Programs()
        self.plans = Plans(selection, self._programs)
        self.samples = RowSamples(selection, self.plans)
        self.runs = SampleRuns(self.subject, self.plans, self._programs, note)
        self.figures: list[tuple[str, str]] = []
        self._converted: dict[tuple[str, Sample], ConvertedSample | StageFailure] = {}

    def convert(self, recipe: Recipe, sample: Sample) -> ConvertedSample | StageFailure:
        """The sample's part of a converted graph; the first samples of all rows are converted together."""
        if (recipe.name, sample) not in self._converted:
            rows = self.selection.own_rows(recipe.kernel)
            firsts = [first for row in rows if (first := self.samples.find_first(row, recipe))]
            firsts += (s for s in self.selection.operators if s.variation == "plain")
            self._convert_together(recipe, firsts if sample in firsts else [sample])
        return self._converted[recipe.name, sample]

    def _convert_together(self, recipe: Recipe, samples: Sequence[Sample]) -> None:
        def convert(group: Sequence[Sample]) -> list[ConvertedSample]:
            return convert_samples(self.subject, recipe.name, group, self._programs.capture(group))

        for group in group_alike([s for s in samples if (recipe.name, s) not in self._converted]):
            for sample, converted in split_on_failure(group, convert, PLANNED_TOGETHER, "convert"):
                self._converted[recipe.name, sample] = converted
