"""Builds the samples in which rows stand in sequence: pairs, triples, and rows around float operators."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping

import attrs
import torch
from torch import nn

from quanthost.graph.table import Row
from quanthost.testing.cases.joined import filter_joinable, join_samples
from quanthost.testing.cases.samples import Sample, build_row_samples, find_undeclared, reshape_sample
from quanthost.testing.proving.case import SampleRun
from quanthost.testing.proving.flow import SampleResult
from quanthost.testing.proving.judging import CHAIN_SLACK, compare_runtime, follows_golden
from quanthost.testing.proving.session import Session
from quanthost.values import Kernel, Recipe

__all__ = [
    "Chain",
    "build_chains",
    "build_chains_with_float",
    "build_kept_in_float",
    "build_split_chains",
    "compare_chain",
]

# how many the quick set and the full set have
_TRIPLES = {False: 12, True: 60}
_SPLIT_CHAINS = {False: 3, True: 20}
_PARTNERS = 6
_FUNCTIONS = ("atan", "erf", "sinh", "sin", "tanh", "trunc", "sign")


def compare_chain(
    session: Session, recipe: Recipe, sample: Sample, result: SampleResult, *, read_on: bool = False
) -> str | None:
    """How runtime and q/dq form of a chain differ, beyond what the declared arithmetic explains.

    A tie that the target rounds in another way than float is one step, and a steep function behind it makes
    it many. The golden form shows the same steps.
    """
    problem = compare_runtime(result, recipe, None, slack=CHAIN_SLACK, read_on=read_on)
    if problem is None or recipe.kernel is not Kernel.STATIC:
        return problem
    golden = session.runs.get(SampleRun(recipe.name, sample, golden=True))
    return None if isinstance(golden, SampleResult) and follows_golden(golden) else problem


@attrs.frozen(kw_only=True, eq=False)
class Chain:
    """Rows in sequence, their names joined by ``+``; ``kind`` is ``"pair"``, ``"chain"`` or ``"around"``.

    With the kind ``"kept"`` the name is that of the row and operator in float, as in ``"conv/conv1d"``.
    """

    kind: str
    name: str
    sample: Sample


def build_chains(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """Each row behind another and before one, then some triples, drawn the same each time.

    In the full set and with a small table, also each pair of the first rows of each kind.
    """
    samples = _find_joinable(session, recipe)
    names = sorted(samples)
    generator = random.Random(0)
    pairs_built: set[str] = set()
    for name in names:
        for is_behind in (True, False):
            others = generator.sample(names, len(names))
            pairs = ((other, name) if is_behind else (name, other) for other in others)
            yield from itertools.islice(_build_pairs(samples, samples, pairs, pairs_built), 1)
    if session.selection.joins_kinds:
        kinds = _find_first_of_kinds(session, samples)
        yield from _build_pairs(samples, samples, itertools.product(kinds, kinds), pairs_built)
    yield from _build_triples(samples, generator, _TRIPLES[session.selection.full])


def build_chains_with_float(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """The rows of a recipe behind and before rows of other kinds, which stay float in it.

    Before those alone whose result grows as their input does: a root would amplify a step near zero.
    """
    float_recipe = session.selection.recipe_of(Kernel.FLOAT)
    if float_recipe is None:
        return
    samples, in_float = _find_joinable(session, recipe), _find_joinable(session, float_recipe)
    names, kinds = sorted(samples), _find_first_of_kinds(session, in_float)
    pairs_built: set[str] = set()
    yield from _build_pairs(in_float, samples, itertools.product(kinds, names), pairs_built)
    scaling = [name for name in kinds if all(s.entry and s.entry.scales_with for s in in_float[name])]
    yield from _build_pairs(samples, in_float, itertools.product(names, scaling), pairs_built)


def build_split_chains(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """Two rows with an operator between them that is in no row, and stays outside of the delegate."""
    function = _find_outside_function(session, recipe)
    if function is None:
        return
    samples = _find_joinable(session, recipe)
    names, count = sorted(samples), 0
    for first in names:
        for second in names:
            firsts = _append_function(samples[first], samples[second], function)
            sample = join_samples(firsts, samples[second]) if firsts else None
            if sample is not None:
                name = f"{first}+{second}"
                yield Chain(kind="around", name=name, sample=attrs.evolve(sample, name=name))
                count += 1
                break
        if count == _SPLIT_CHAINS[session.selection.full]:
            return


def build_kept_in_float(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """Each operator of a row between two quantized ones, with an override that keeps it in float."""
    partners = list(_find_partners(session, recipe))
    for row in session.selection.own_rows(recipe.kernel):
        if session.selection.is_fused(row) and not session.selection.full:
            continue
        samples = filter_joinable(row, session.samples.find_accepted(row, recipe))
        operators = {s.entry.base: s for s in reversed(samples) if s.entry is not None}
        for base, sample in sorted(operators.items()):
            middle = attrs.evolve(sample, module=_KeptModule(sample.module), entry=None)
            chains = (_enclose(partner, middle) for partner in partners)
            chain = next((each for each in chains if each is not None), None)
            if chain is not None:
                name = f"{row.name}/{base}"
                yield Chain(kind="kept", name=name, sample=attrs.evolve(chain, name=name, keeps_float=True))


def _find_first_of_kinds(session: Session, samples: Mapping[str, object]) -> list[str]:
    """The first row of each kind among those that have samples; fused rows are left out."""
    firsts: dict[str, str] = {}
    for row in session.selection.rows():
        if row.name in samples and not session.selection.is_fused(row):
            firsts.setdefault(session.selection.first_alike(row.name), row.name)
    return sorted(firsts.values())


def _build_pairs(
    firsts: Mapping[str, list[Sample]],
    seconds: Mapping[str, list[Sample]],
    pairs: Iterable[tuple[str, str]],
    pairs_built: set[str],
) -> Iterator[Chain]:
    """The pairs that fit, each once."""
    for first, second in pairs:
        name = f"{first}+{second}"
        sample = None if name in pairs_built else join_samples(firsts[first], seconds[second])
        if sample is not None:
            pairs_built.add(name)
            yield Chain(kind="pair", name=name, sample=attrs.evolve(sample, name=name))


def _build_triples(samples: dict[str, list[Sample]], generator: random.Random, count: int) -> Iterator[Chain]:
    names, built = sorted(samples), 0
    for _ in range(count * 10 if len(names) > 1 else 0):
        rows = [generator.choice(names) for _ in range(3)]
        pair = join_samples(samples[rows[0]], samples[rows[1]])
        triple = None if pair is None else join_samples([pair], samples[rows[2]])
        if triple is not None:
            name = "+".join(rows)
            yield Chain(kind="chain", name=name, sample=attrs.evolve(triple, name=name))
            built += 1
        if built == count:
            return


def _find_joinable(session: Session, recipe: Recipe) -> dict[str, list[Sample]]:
    """Plain samples of each row that reads an activation first and makes one float tensor."""
    samples_by_row = {}
    for row in session.selection.rows(recipe.kernel):
        samples = filter_joinable(row, session.samples.find_plain(row, recipe))
        if samples and not (recipe.kernel is Kernel.FLOAT and not row.delegated):
            samples_by_row[row.name] = samples
    return samples_by_row


def _find_partners(session: Session, recipe: Recipe) -> Iterator[list[Sample]]:
    """Samples of the first rows of the table that take any shape, selected or not."""

    def takes_any_shape(row: Row, sample: Sample) -> bool:
        any_rank = sample.entry is not None and bool(sample.entry.any_rank)
        return any_rank and bool(session.plans.filter_holding(row, recipe, [sample]))

    rows = [row for row in session.subject.table or () if recipe.kernel in row.kernels and not row.converts]
    firsts = (
        (row, next(build_row_samples(row), None)) for row in rows if not session.selection.is_fused(row)
    )
    partners = ([sample] for row, sample in firsts if sample is not None and takes_any_shape(row, sample))
    return itertools.islice(partners, _PARTNERS)


def _enclose(samples: list[Sample], middle: Sample) -> Sample | None:
    """The sample between two of the same row."""
    before = join_samples(samples, [middle])
    return None if before is None else join_samples([before], samples)


class _KeptModule(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Holds a module under the name ``kept``, which the override names."""

    def __init__(self, kept: nn.Module) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.kept(*inputs)
        return result


def _append_function(firsts: list[Sample], seconds: list[Sample], function: nn.Module) -> list[Sample]:
    """The first samples with the function behind, one of them in the shape that the second ones have."""
    resized = reshape_sample(firsts[0], tuple(seconds[0].inputs[0].shape))
    return [
        attrs.evolve(sample, module=nn.Sequential(sample.module, function), entry=None)
        for sample in (*firsts, *filter(None, [resized]))
        if len(sample.inputs) == 1
    ]


def _find_outside_function(session: Session, recipe: Recipe) -> nn.Module | None:
    """An elementwise function that is in no row, and that every runtime has."""
    bases = {entry.base for entry in find_undeclared(session.subject.table, recipe.kernel)}
    name = next((name for name in _FUNCTIONS if name in bases), None)
    return None if name is None else _Function(name)


class _Function(nn.Module):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = getattr(torch, self.name)(x)
        return result
