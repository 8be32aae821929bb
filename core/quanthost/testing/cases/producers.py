"""Rows behind other rows: what a constraint asks of the operators before it shows in no sample alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from quanthost.graph.table import Row
from quanthost.testing.cases.joined import joined, usable
from quanthost.testing.cases.samples import Sample, of_row
from quanthost.values import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quanthost.testing.proving.session import Session

__all__ = ["Behind"]


class Behind:
    """For each row its samples behind others, made and looked at at the first demand."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._made: dict[str, list[Sample]] = {}
        self._found: dict[tuple[str, str], list[Sample]] = {}

    def samples(self, row: Row, recipe: Recipe) -> list[Sample]:
        """Where the row's own samples show it at work nowhere: behind each other row.

        Where it works behind one of these, also behind each variation of that. In the full set and of a small
        table a row that works has them too, as long as its own do not show what one of its constraints
        refuses.
        """
        key = (recipe.name, row.name)
        if key not in self._found:
            self._found[key] = list(self._looked_at(row, recipe))
        return self._found[key]

    def _looked_at(self, row: Row, recipe: Recipe) -> Iterable[Sample]:
        session = self._session
        works = bool(session.holding(row, recipe, session.samples(row)))
        if works and not (session.joins_kinds and self._is_unshown(row, recipe)):
            return []
        found = self._behind_all(row)
        session.look(recipe, found)
        at = next(iter(session.holding(row, recipe, found)), None)
        if works or at is None or at.follows is None:
            return found
        varied = self._joined(row, ((at.follows, s) for s in of_row(self._row(at.follows))))
        session.look(recipe, varied)
        return [at, *varied]

    def _is_unshown(self, row: Row, recipe: Recipe) -> bool:
        rules = (rule for rule in row.constraints if rule.applies_to(recipe.kernel))
        return any(self._session.refused(row, recipe, rule, own=True) is None for rule in rules)

    def _row(self, name: str) -> Row:
        assert self._session.subject.table is not None
        return self._session.subject.table.row(name)

    def _behind_all(self, row: Row) -> list[Sample]:
        """Behind the first sample of each other row; the same ones in each recipe."""
        if row.name not in self._made:
            session = self._session
            others = [
                other for other in session.subject.table or ()
                if other is not row and not other.converts and not session.is_fused(other)
            ]  # fmt: skip
            firsts = ((other.name, next(of_row(other), None)) for other in others)
            self._made[row.name] = self._joined(row, ((name, s) for name, s in firsts if s is not None))
        return self._made[row.name]

    def _joined(self, row: Row, others: Iterable[tuple[str, Sample]]) -> list[Sample]:
        seconds = usable(row, self._session.samples(row))
        made = ((name, first, joined([first], seconds)) for name, first in others if seconds)
        return [
            attrs.evolve(
                sample, name=f"{row.name}/behind={name}:{first.variation}", variation=f"behind={name}",
                row=row.name, follows=name,
            )
            for name, first, sample in made if sample is not None
        ]  # fmt: skip
