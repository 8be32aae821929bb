"""Builds samples with a producer in front, for constraints on the producer."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from quanthost.graph.table import Row
from quanthost.testing.cases.joined import filter_joinable, join_samples
from quanthost.testing.cases.samples import Sample, build_row_samples
from quanthost.testing.proving.plans import Plans
from quanthost.testing.proving.selection import Selection
from quanthost.values import Recipe

__all__ = ["ProducerSamples"]


class ProducerSamples:
    """The samples in which a row reads the result of another row, created when first needed."""

    def __init__(self, selection: Selection, plans: Plans) -> None:
        self._selection, self._plans = selection, plans
        self._candidates: dict[str, list[Sample]] = {}
        self._samples: dict[tuple[str, str], list[Sample]] = {}

    def get(self, row: Row, recipe: Recipe) -> list[Sample]:
        """If the row holds in none of its own samples: the row behind each other row.

        If it holds behind one of these, also behind each variation of that one. In the full set and with a
        small table, a row that holds has such samples too, as long as its own samples do not show what one of
        its constraints refuses.
        """
        key = (recipe.name, row.name)
        if key not in self._samples:
            self._samples[key] = self._build(row, recipe)
        return self._samples[key]

    def _build(self, row: Row, recipe: Recipe) -> list[Sample]:
        holds = bool(self._plans.filter_holding(row, recipe, self._selection.samples(row)))
        if holds and not (self._selection.joins_kinds and self._lacks_refusal(row, recipe)):
            return []
        candidates = self._build_candidates(row)
        self._plans.create(recipe, candidates)
        first = next(iter(self._plans.filter_holding(row, recipe, candidates)), None)
        if holds or first is None or first.producer is None:
            return candidates
        producer = first.producer
        variations = build_row_samples(self._table_row(producer))
        varied = self._join(row, ((producer, sample) for sample in variations))
        self._plans.create(recipe, varied)
        return [first, *varied]

    def _lacks_refusal(self, row: Row, recipe: Recipe) -> bool:
        """Whether no own sample shows what some constraint refuses."""
        own = self._selection.samples(row)
        rules = (rule for rule in row.constraints if rule.applies_to(recipe.kernel))
        return any(self._plans.find_refused(row, recipe, rule, own) is None for rule in rules)

    def _table_row(self, name: str) -> Row:
        assert self._selection.subject.table is not None
        return self._selection.subject.table.row(name)

    def _build_candidates(self, row: Row) -> list[Sample]:
        """The row behind the first sample of each other row; the same ones in each recipe."""
        if row.name not in self._candidates:
            producers = [
                other for other in self._selection.subject.table or ()
                if other is not row and not other.converts and not self._selection.is_fused(other)
            ]  # fmt: skip
            firsts = ((producer.name, next(build_row_samples(producer), None)) for producer in producers)
            self._candidates[row.name] = self._join(row, ((name, s) for name, s in firsts if s is not None))
        return self._candidates[row.name]

    def _join(self, row: Row, producers: Iterable[tuple[str, Sample]]) -> list[Sample]:
        own = filter_joinable(row, self._selection.samples(row))
        pairs = ((name, first, join_samples([first], own)) for name, first in producers if own)
        return [
            attrs.evolve(
                sample, name=f"{row.name}/behind={name}:{first.variation}", variation=f"behind={name}",
                row=row.name, producer=name,
            )
            for name, first, sample in pairs if sample is not None
        ]  # fmt: skip
