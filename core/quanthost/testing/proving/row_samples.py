"""Finds the samples of a row that it accepts or refuses, by the backend's own table."""

from __future__ import annotations

from quanthost.graph.table import Constraint, Row
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.plans import Plans
from quanthost.testing.proving.producers import ProducerSamples
from quanthost.testing.proving.selection import Selection
from quanthost.values import Recipe

__all__ = ["RowSamples"]


class RowSamples:
    """The samples of each row: its own, and those with a producer in front."""

    def __init__(self, selection: Selection, plans: Plans) -> None:
        self._selection, self._plans = selection, plans
        self.producers = ProducerSamples(selection, plans)

    def find_accepted(self, row: Row, recipe: Recipe) -> list[Sample]:
        """The row's samples in which it holds, plain ones first.

        If it holds in none of its own, those with a producer are tried.
        """
        samples = self._plans.filter_holding(row, recipe, self._selection.samples(row))
        if not samples:
            samples = self._plans.filter_holding(row, recipe, self.producers.get(row, recipe))
        return sorted(samples, key=lambda s: (s.variation != "plain", s.is_dynamic))

    def find_plain(self, row: Row, recipe: Recipe) -> list[Sample]:
        """The accepted plain samples of each operator; all accepted ones if there are none."""
        plain = (s for s in self._selection.samples(row) if s.variation == "plain")
        return self._plans.filter_holding(row, recipe, plain) or self.find_accepted(row, recipe)

    def find_first(self, row: Row, recipe: Recipe) -> Sample | None:
        """The first accepted sample; if it is a plain one, the others are not planned."""
        return next(iter(self.find_plain(row, recipe)), None)

    def find_refused(self, row: Row, recipe: Recipe, rule: Constraint) -> Sample | None:
        """The first sample that this constraint of the row refuses, and no other does."""
        own = self._selection.samples(row)
        return self._plans.find_refused(row, recipe, rule, own) or self._plans.find_refused(
            row, recipe, rule, self.producers.get(row, recipe)
        )
