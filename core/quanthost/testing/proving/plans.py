"""Plans samples by recipe, many in one program, and says at which of them a row holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quanthost.graph.table import Constraint, Row
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.programs import Programs
from quanthost.testing.proving.row_checks import RowCheck, SamplePlan, plan_samples
from quanthost.testing.proving.selection import PLANNED_TOGETHER, Selection, group_alike
from quanthost.testing.proving.splitting import StageFailure, split_on_failure
from quanthost.values import Recipe

__all__ = ["Plans"]


class Plans:
    """The plans of all samples, created when first needed."""

    def __init__(self, selection: Selection, programs: Programs) -> None:
        self._selection, self._programs = selection, programs
        self._plans: dict[tuple[str, Sample], SamplePlan | StageFailure] = {}

    def get(self, recipe: Recipe, sample: Sample) -> SamplePlan | StageFailure:
        """The plan of a sample; other samples of the selection are planned with it."""
        if (recipe.name, sample) not in self._plans:
            self.create(recipe, self._selection.planned_with(sample))
        return self._plans[recipe.name, sample]

    def create(self, recipe: Recipe, samples: Iterable[Sample]) -> None:
        """Plan samples that have no plan yet, together."""

        def plan(group: Sequence[Sample]) -> list[SamplePlan]:
            return plan_samples(self._selection.subject, recipe.name, group, self._programs.capture(group))

        for group in group_alike(s for s in samples if (recipe.name, s) not in self._plans):
            for sample, result in split_on_failure(group, plan, PLANNED_TOGETHER, "prepare"):
                self._plans[recipe.name, sample] = result

    def is_held(self, recipe: str, sample: Sample) -> bool:
        """Whether the sample has a plan in which some row holds, and its own row nowhere is refused."""
        plan = self._plans.get((recipe, sample))
        if plan is None or isinstance(plan, StageFailure):
            return False
        checks = plan.row_checks
        return any(c.holds for c in checks) and all(c.holds for c in checks if c.row == sample.row)

    def check_row(self, row: Row, recipe: Recipe, sample: Sample) -> tuple[RowCheck, ...]:
        """Each place of a sample where the row's pattern is."""
        plan = self.get(recipe, sample)
        return () if isinstance(plan, StageFailure) else plan.checks_of(row.name)

    def filter_holding(self, row: Row, recipe: Recipe, samples: Iterable[Sample]) -> list[Sample]:
        """The samples in which the row holds somewhere."""
        return [s for s in samples if any(check.holds for check in self.check_row(row, recipe, s))]

    def find_refused(
        self, row: Row, recipe: Recipe, rule: Constraint, samples: Iterable[Sample]
    ) -> Sample | None:
        """The first sample that this constraint of the row refuses, and no other does."""
        for sample in samples:
            checks = self.check_row(row, recipe, sample)
            if any({text for text, _ in check.refusals} == {rule.text} for check in checks):
                return sample
        return None
