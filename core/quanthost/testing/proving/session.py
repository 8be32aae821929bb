"""One run of the suite over one backend: samples, what is seen and what was proved of them, made once."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from quanthost.catalogue import CATALOGUE
from quanthost.graph.table import Constraint, Row
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.testing.cases.producers import Behind
from quanthost.testing.cases.samples import Regime, Sample, of_operator, of_row, undeclared, variations_of
from quanthost.testing.expectations import Expectations
from quanthost.testing.proving.flow import (
    Converted,
    Failed,
    Proved,
    captured_of,
    converted_of,
    proved_of,
    split,
)
from quanthost.testing.proving.row_checks import Met, Seen, seen_of
from quanthost.testing.proving.subject import Subject
from quanthost.testing.results import Area
from quanthost.values import Kernel, Recipe

__all__ = ["Check", "Fault", "Session", "Skip", "Trial", "Verdict"]

# samples in one program: enough to share what a program costs, few enough to be split soon
_LOWERED, _SEEN = 24, 150
# up to so many variations of all rows that are no others with an operator behind
_SMALL = 400


@attrs.frozen(kw_only=True, eq=False)
class Fault:
    """What was seen instead of what must hold, and the sample that shows it."""

    message: str
    sample: Sample | None = None
    recipe: str | None = None


@attrs.frozen
class Skip:
    """Why a case could not be tried."""

    reason: str


Verdict = Fault | Skip | None


@attrs.frozen
class Trial:
    """A sample that a check wants lowered and run, or its integer form.

    ``golden`` asks for the golden form's results beside the same program's.
    """

    recipe: str
    sample: Sample
    regime: Regime = Regime.PLAIN
    in_integers: bool = False
    golden: bool = attrs.field(default=False, eq=False)


@attrs.frozen(kw_only=True, eq=False)
class Check:
    """A case before it runs: ``trials`` are lowered beforehand, together with those of other cases."""

    id: str
    subject: str
    must: str
    judge: Callable[[], Verdict]
    trials: tuple[Trial, ...] = ()

    @property
    def area(self) -> Area:
        return Area(self.id.partition("/")[0])


class Session:
    """Samples are made, seen and proved at the first demand, many in one program.

    ``wants`` says of a row's or operator's name whether any case of it was asked for, ``asks`` the same of a
    kind of cases as ``"table/pair"``, ``owns`` of a row's name whether its cases are run here and not in
    another process; ``runs`` is told the recipe and the names of samples before they run, and nothing after
    that.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        full: bool,
        expectations: Expectations,
        wants: Callable[[str], bool],
        asks: Callable[[str], bool] = lambda _: True,
        owns: Callable[[str], bool] = lambda _: True,
        runs: Callable[..., None] = lambda *_: None,
    ) -> None:
        self.subject, self.full, self.expectations = subject, full, expectations
        self.wants, self.asks, self._owns, self._runs = wants, asks, owns, runs
        self.common: CapturedModel | None = None
        self.decided: dict[str, Any] = {}
        self.figures: list[tuple[str, str]] = []
        self._captured: dict[tuple[tuple[Sample, ...], Regime], CapturedModel | Exception] = {}
        self._seen: dict[tuple[str, Sample], Seen | Failed] = {}
        self._proved: dict[Trial, Proved | Failed] = {}
        self._converted: dict[tuple[str, Sample], Converted | Failed] = {}
        self._wanted: dict[Trial, None] = {}
        self.behind = Behind(self)
        self._golden: set[Trial] = set()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        return self.subject.recipes(full=self.full)

    def rows(self, kernel: Kernel | None = None) -> list[Row]:
        """The rows that are met in a captured graph and were asked for."""
        rows = self.subject.table or ()
        return [
            row for row in rows
            if not row.converts and self.wants(row.name) and (kernel is None or kernel in row.kernels)
        ]  # fmt: skip

    def own_rows(self, kernel: Kernel) -> list[Row]:
        """Those of ``rows`` whose cases are run here."""
        return [row for row in self.rows(kernel) if self._owns(row.name)]

    @functools.cached_property
    def _samples(self) -> dict[str, tuple[Sample, ...]]:
        return {row.name: tuple(of_row(row)) for row in self.rows()}

    @functools.cached_property
    def operators(self) -> tuple[Sample, ...]:
        """Without a table: each operator of the catalogue, in the full set at each of its variations."""
        if self.subject.table is not None:
            return ()
        return tuple(
            sample for entry in CATALOGUE.values() if self.wants(entry.name)
            for sample in of_operator(entry, [v.name for v in entry.variations()] if self.full else ["plain"])
        )  # fmt: skip

    @functools.cached_property
    def undeclared(self) -> dict[Kernel, tuple[Sample, ...]]:
        """With a table: the operators of the catalogue that no row has, by kernel."""
        table = self.subject.table
        return {
            kernel: tuple(
                sample for entry in undeclared(table, kernel) if self.wants(entry.name)
                for sample in itertools.islice(of_operator(entry), 1)
            )
            for kernel in ({recipe.kernel for recipe in self.recipes} if table is not None else ())
        }  # fmt: skip

    @functools.cached_property
    def _together(self) -> dict[Sample, list[Sample]]:
        """For each sample those that are looked at with it: the same ones in each recipe."""
        groups: dict[object, list[Sample]] = defaultdict(list)
        for row in self.rows():
            for sample in self.samples(row):
                groups[row.kernels, self._owns(row.name), sample.variation == "plain"].append(sample)
        for sample in self.operators:
            groups["operators", sample.variation == "plain"].append(sample)
        for kernel, samples in self.undeclared.items():
            groups["undeclared", kernel].extend(samples)
        found = {}
        for alike in (alike for group in groups.values() for alike in _alike(group)):
            for start in range(0, len(alike), _SEEN):
                part = alike[start : start + _SEEN]
                found.update(dict.fromkeys(part, part))
        return found

    @functools.cached_property
    def is_small(self) -> bool:
        """Whether the quick set has time for each variation of each row, and each pair of kinds of rows."""
        rows = (row for row in self.subject.table or () if not row.converts and not self.is_fused(row))
        return sum(1 for row in rows for _ in variations_of(row)) <= _SMALL

    @property
    def joins_kinds(self) -> bool:
        """Whether rows of each kind are tried behind those of each other kind."""
        return self.full or self.is_small

    def samples(self, row: Row) -> tuple[Sample, ...]:
        return self._samples.get(row.name, ())

    def is_fused(self, row: Row) -> bool:
        """Whether it is another row with an operator behind."""
        inner = [part for _, part in row.pattern.operands if not isinstance(part, (str, float, int))]
        return any(other.pattern in inner for other in self.subject.table or ())

    def kin(self, name: str) -> str:
        """The first row that is alike: all but name, operator and kernel's name are equal."""
        return self._kin[name]

    @functools.cached_property
    def _kin(self) -> dict[str, str]:
        kinds: list[tuple[object, str]] = []
        found = {}
        for row in self.subject.table or ():
            kind = _kind(row)
            first = next((name for other, name in kinds if other == kind), row.name)
            kinds.append((kind, first))
            found[row.name] = first
        return found

    def recipe_of(self, kernel: Kernel) -> Recipe | None:
        """The first recipe of a kernel."""
        return next((recipe for recipe in self.recipes if recipe.kernel is kernel), None)

    def seen(self, recipe: Recipe, sample: Sample) -> Seen | Failed:
        """Decisions on a sample; those of many rows are made together."""
        if (recipe.name, sample) not in self._seen:
            self.look(recipe, self._together.get(sample, [sample]))
        return self._seen[recipe.name, sample]

    def look(self, recipe: Recipe, samples: Sequence[Sample]) -> None:
        """Have decisions made on samples, together."""
        for group in _alike(s for s in samples if (recipe.name, s) not in self._seen):
            for sample, seen in split(group, partial(self._seen_of, recipe.name), _SEEN, "prepare"):
                self._seen[recipe.name, sample] = seen

    def _seen_of(self, recipe: str, samples: Sequence[Sample]) -> list[Seen]:
        return seen_of(self.subject, recipe, samples, self._program(samples))

    def _program(self, samples: Sequence[Sample], regime: Regime = Regime.PLAIN) -> CapturedModel:
        """The samples as one program, captured once for all recipes."""
        key = (tuple(samples), regime)
        if key not in self._captured:
            try:
                self._captured[key] = captured_of(samples, regime)
            except Exception as error:
                self._captured[key] = error
        found = self._captured[key]
        if isinstance(found, Exception):
            raise found
        return found

    def accepted(self, row: Row, recipe: Recipe) -> list[Sample]:
        """The row's samples at which the row holds by its own table, plain ones first.

        Where it holds at none, they are tried behind other rows.
        """
        found = self.holding(row, recipe, self.samples(row))
        if not found:
            found = self.holding(row, recipe, self.behind.samples(row, recipe))
        return sorted(found, key=lambda s: (s.variation != "plain", s.is_dynamic))

    def holding(self, row: Row, recipe: Recipe, samples: Iterable[Sample]) -> list[Sample]:
        """Those at which the row holds somewhere."""
        return [s for s in samples if any(met.holds for met in self.met(row, recipe, s))]

    def refused(self, row: Row, recipe: Recipe, rule: Constraint, *, own: bool = False) -> Sample | None:
        """The first sample that this constraint of the row refuses, and nothing else does.

        With ``own`` none in which the row is behind another.
        """
        alone, behind = self.samples(row), () if own else self.behind.samples(row, recipe)
        refusing = (
            s for s in (*alone, *behind)
            if any({text for text, _ in met.refusals} == {rule.text} for met in self.met(row, recipe, s))
        )  # fmt: skip
        return next(refusing, None)

    def plain(self, row: Row, recipe: Recipe) -> list[Sample]:
        """The accepted ones of each operator without a variation; all accepted ones where there are none."""
        found = self.holding(row, recipe, (s for s in self.samples(row) if s.variation == "plain"))
        return found or self.accepted(row, recipe)

    def first(self, row: Row, recipe: Recipe) -> Sample | None:
        """The first accepted one; where a plain one is, the others are not looked at."""
        return next(iter(self.plain(row, recipe)), None)

    def met(self, row: Row, recipe: Recipe, sample: Sample) -> tuple[Met, ...]:
        seen = self.seen(recipe, sample)
        return () if isinstance(seen, Failed) else seen.rows(row.name)

    def plan(self, trials: Iterable[Trial]) -> None:
        """Note what will be asked for, so that it is lowered together."""
        for trial in trials:
            self._wanted[trial] = None
            if trial.golden:
                self._golden.add(trial)

    def proved(self, recipe: str, sample: Sample) -> Proved | Failed:
        return self.proved_as(Trial(recipe, sample))

    def proved_as(self, trial: Trial) -> Proved | Failed:
        if trial not in self._proved or (trial.golden and trial not in self._golden):
            self._proved.pop(trial, None)
            self.plan([trial])
            alike = [
                t for t in self._wanted
                if attrs.evolve(trial, sample=t.sample) == t and t not in self._proved
            ]  # fmt: skip
            for golden in (True, False):
                self._prove(trial, golden, [t.sample for t in alike if (t in self._golden) is golden])
        return self._proved[trial]

    def _prove(self, kind: Trial, golden: bool, samples: Sequence[Sample]) -> None:
        """Lower and run samples as ``kind`` is, many in one program."""
        work = partial(
            self._proved_of, kind.recipe, regime=kind.regime, in_integers=kind.in_integers, golden=golden
        )
        # an operator that is refused at one place cannot be kept whole at the others of that program
        held, refused = (
            [s for s in samples if self._holds(kind.recipe, s) is holds] for holds in (True, False)
        )
        for group in (*_alike(held), *_alike(refused)):
            for each, proved in split(group, work, _LOWERED, "lower"):
                self._proved[attrs.evolve(kind, sample=each)] = proved

    def _proved_of(
        self,
        recipe: str,
        samples: Sequence[Sample],
        *,
        regime: Regime = Regime.PLAIN,
        in_integers: bool = False,
        golden: bool = False,
    ) -> list[Proved]:
        self._runs(recipe, [sample.name for sample in samples])
        try:
            return proved_of(
                self.subject, recipe, samples, regime, in_integers=in_integers, golden=golden,
                captured=self._program(samples, regime),
            )  # fmt: skip
        finally:
            self._runs()

    def _holds(self, recipe: str, sample: Sample) -> bool:
        """Whether some row is known to hold somewhere in it, and none to be refused."""
        seen = self._seen.get((recipe, sample))
        if seen is None or isinstance(seen, Failed):
            return False
        return any(m.holds for m in seen.met) and all(m.holds for m in seen.met if m.row == sample.row)

    def alone(self, recipe: str, sample: Sample) -> list[Proved | Failed]:
        """The sample in a program of its own."""
        work = partial(self._proved_of, recipe)
        return [proved for _, proved in split([sample], work, 1, "lower")]

    def converted(self, recipe: Recipe, sample: Sample) -> Converted | Failed:
        """The sample's part of a converted graph; those of all rows' first samples are made together."""
        if (recipe.name, sample) not in self._converted:
            firsts = [found for row in self.own_rows(recipe.kernel) if (found := self.first(row, recipe))]
            firsts += (s for s in self.operators if s.variation == "plain")
            alike = firsts if sample in firsts else [sample]
            for group in _alike([s for s in alike if (recipe.name, s) not in self._converted]):
                found_all = split(group, partial(self._converted_of, recipe.name), _SEEN, "convert")
                for each, made in found_all:
                    self._converted[recipe.name, each] = made
        return self._converted[recipe.name, sample]

    def _converted_of(self, recipe: str, samples: Sequence[Sample]) -> list[Converted]:
        return converted_of(self.subject, recipe, samples, self._program(samples))


def _kind(row: Row) -> object:
    return (
        row.roles, row.constraints, row.shares, row.qspecs, row.weight_axis, row.gain, row.kernels, row.size,
        row.pattern.captures(), bool(row.keeps), row.converts,
    )  # fmt: skip


def _alike(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Those with sizes that vary apart from the others, which need no tracing, and empty ones too."""
    groups: dict[object, list[Sample]] = defaultdict(list)
    for sample in dict.fromkeys(samples):
        groups[sample.is_dynamic, any(x.numel() == 0 for x in sample.inputs)].append(sample)
    yield from groups.values()
