"""Selects the rows, operators and samples of a backend that one run of the suite works on."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import attrs

from quanthost.catalogue import CATALOGUE
from quanthost.graph.table import Row
from quanthost.testing.cases.samples import (
    Sample,
    build_operator_samples,
    build_row_samples,
    find_undeclared,
    list_variations,
)
from quanthost.testing.proving.subject import Subject
from quanthost.values import Kernel, Recipe

__all__ = ["PLANNED_TOGETHER", "Selection", "group_alike"]

# samples that are planned in one program
PLANNED_TOGETHER = 150
# a small table has at most this many variations of all rows, fused ones left out
_SMALL = 400


@attrs.frozen(kw_only=True, eq=False)
class Selection:
    """The part of the suite that a run works on.

    ``includes`` says of the name of a row, operator or network whether any case of it is selected,
    ``includes_kind`` the same of a kind of cases as ``"table/pair"``. ``owns`` says of a row's name whether
    its cases run in this process.
    """

    subject: Subject
    full: bool
    includes: Callable[[str], bool] = lambda _: True
    includes_kind: Callable[[str], bool] = lambda _: True
    owns: Callable[[str], bool] = lambda _: True

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        return self.subject.recipes(full=self.full)

    def recipe_of(self, kernel: Kernel) -> Recipe | None:
        """The first recipe of a kernel."""
        return next((recipe for recipe in self.recipes if recipe.kernel is kernel), None)

    def rows(self, kernel: Kernel | None = None) -> list[Row]:
        """The selected rows that match captured graphs."""
        return [
            row for row in self.subject.table or ()
            if not row.converts and self.includes(row.name) and (kernel is None or kernel in row.kernels)
        ]  # fmt: skip

    def own_rows(self, kernel: Kernel) -> list[Row]:
        """Those of ``rows`` whose cases run in this process."""
        return [row for row in self.rows(kernel) if self.owns(row.name)]

    def samples(self, row: Row) -> tuple[Sample, ...]:
        """The row's own samples, none if the row is not selected."""
        return self._samples.get(row.name, ())

    @functools.cached_property
    def _samples(self) -> dict[str, tuple[Sample, ...]]:
        return {row.name: tuple(build_row_samples(row)) for row in self.rows()}

    @functools.cached_property
    def operators(self) -> tuple[Sample, ...]:
        """Without a table: each operator of the catalogue, in the full set at each of its variations."""
        if self.subject.table is not None:
            return ()
        return tuple(
            sample for entry in CATALOGUE.values() if self.includes(entry.name)
            for sample in build_operator_samples(
                entry, [v.name for v in entry.variations()] if self.full else ["plain"]
            )
        )  # fmt: skip

    @functools.cached_property
    def undeclared(self) -> dict[Kernel, tuple[Sample, ...]]:
        """With a table: the operators of the catalogue that are in no row, by kernel."""
        table = self.subject.table
        return {
            kernel: tuple(
                sample for entry in find_undeclared(table, kernel) if self.includes(entry.name)
                for sample in itertools.islice(build_operator_samples(entry), 1)
            )
            for kernel in ({recipe.kernel for recipe in self.recipes} if table is not None else ())
        }  # fmt: skip

    def planned_with(self, sample: Sample) -> list[Sample]:
        """The samples that are planned in one program with this one, the same ones in each recipe."""
        return self._groups.get(sample, [sample])

    @functools.cached_property
    def _groups(self) -> dict[Sample, list[Sample]]:
        groups: dict[object, list[Sample]] = defaultdict(list)
        for row in self.rows():
            for sample in self.samples(row):
                groups[row.kernels, self.owns(row.name), sample.variation == "plain"].append(sample)
        for sample in self.operators:
            groups["operators", sample.variation == "plain"].append(sample)
        for kernel, samples in self.undeclared.items():
            groups["undeclared", kernel].extend(samples)
        programs = {}
        for alike in (alike for group in groups.values() for alike in group_alike(group)):
            for start in range(0, len(alike), PLANNED_TOGETHER):
                program = alike[start : start + PLANNED_TOGETHER]
                programs.update(dict.fromkeys(program, program))
        return programs

    @functools.cached_property
    def is_small(self) -> bool:
        """Whether the quick set has time for each variation of each row, and each pair of kinds of rows."""
        rows = (row for row in self.subject.table or () if not row.converts and not self.is_fused(row))
        return sum(1 for row in rows for _ in list_variations(row)) <= _SMALL

    @property
    def joins_kinds(self) -> bool:
        """Whether rows of each kind are tried behind rows of each other kind."""
        return self.full or self.is_small

    def is_fused(self, row: Row) -> bool:
        """Whether the row is another row with one more operator behind it."""
        inner = [part for _, part in row.pattern.operands if not isinstance(part, (str, float, int))]
        return any(other.pattern in inner for other in self.subject.table or ())

    def first_alike(self, name: str) -> str:
        """The first row that equals this one in all but name, operator and name of the kernel."""
        return self._first_alike[name]

    @functools.cached_property
    def _first_alike(self) -> dict[str, str]:
        kinds: list[tuple[object, str]] = []
        firsts = {}
        for row in self.subject.table or ():
            kind = _describe_kind(row)
            first = next((name for other, name in kinds if other == kind), row.name)
            kinds.append((kind, first))
            firsts[row.name] = first
        return firsts


def _describe_kind(row: Row) -> object:
    return (
        row.roles, row.constraints, row.shares, row.qspecs, row.weight_axis, row.gain, row.kernels, row.size,
        row.pattern.captures(), bool(row.keeps), row.converts,
    )  # fmt: skip


def group_alike(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Groups of samples that go into one program: dynamic ones and empty ones stay apart from the others."""
    groups: dict[object, list[Sample]] = defaultdict(list)
    for sample in dict.fromkeys(samples):
        groups[sample.is_dynamic, any(x.numel() == 0 for x in sample.inputs)].append(sample)
    yield from groups.values()
