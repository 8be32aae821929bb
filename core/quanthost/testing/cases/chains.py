"""Samples one behind the other: pairs and chains of rows whose shapes go together."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping

import attrs
import torch
from torch import nn

from quanthost.testing.cases.joined import joined, usable
from quanthost.testing.cases.samples import Sample, of_row, reshaped, undeclared
from quanthost.testing.proving.session import Session
from quanthost.values import Kernel, Recipe

__all__ = ["Chain", "among_floats", "around", "chains", "kept"]

_TRIPLES = {False: 12, True: 60}
_AROUND = {False: 3, True: 20}
_PARTNERS = 6
_FUNCTIONS = ("atan", "erf", "sinh", "sin", "tanh", "trunc", "sign")


@attrs.frozen(kw_only=True, eq=False)
class Chain:
    """Rows in order, the names joined by ``+``; ``kind`` is ``"pair"``, ``"chain"`` or ``"around"``.

    Of kind ``"kept"`` the name is that of the row and operator that is kept, as in ``"conv/conv1d"``.
    """

    kind: str
    name: str
    sample: Sample


def chains(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """Each row behind another and before one, then some of three, drawn the same each time.

    In the full set and of a small table also the first row of each kind behind and before that of each
    other kind.
    """
    held = _held(session, recipe)
    names = sorted(held)
    drawn = random.Random(0)
    seen: set[str] = set()
    for name in names:
        for order in ("behind", "before"):
            others = drawn.sample(names, len(names))
            pairs = ((other, name) if order == "behind" else (name, other) for other in others)
            yield from itertools.islice(_pairs(held, held, pairs, seen), 1)
    if session.joins_kinds:
        kinds = _first_of_kinds(session, held)
        yield from _pairs(held, held, itertools.product(kinds, kinds), seen)
    yield from _triples(held, drawn, _TRIPLES[session.full])


def among_floats(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """The rows of a recipe behind and before those of other kinds, which stay float with it.

    Before those alone whose result grows as their input does: a root would make much of a step near zero.
    """
    other = session.recipe_of(Kernel.FLOAT)
    if other is None:
        return
    held, floats = _held(session, recipe), _held(session, other)
    names, kinds = sorted(held), _first_of_kinds(session, floats)
    seen: set[str] = set()
    yield from _pairs(floats, held, itertools.product(kinds, names), seen)
    even = [name for name in kinds if all(s.entry and s.entry.scales_with for s in floats[name])]
    yield from _pairs(held, floats, itertools.product(names, even), seen)


def _first_of_kinds(session: Session, held: Mapping[str, object]) -> list[str]:
    """The first of each kind of rows that are no others with an operator behind."""
    kinds: dict[str, str] = {}
    for row in session.rows():
        if row.name in held and not session.is_fused(row):
            kinds.setdefault(session.kin(row.name), row.name)
    return sorted(kinds.values())


def _pairs(
    firsts: Mapping[str, list[Sample]],
    seconds: Mapping[str, list[Sample]],
    pairs: Iterable[tuple[str, str]],
    seen: set[str],
) -> Iterator[Chain]:
    """Those that go together, each once."""
    for first, second in pairs:
        key = f"{first}+{second}"
        sample = None if key in seen else joined(firsts[first], seconds[second])
        if sample is not None:
            seen.add(key)
            yield Chain(kind="pair", name=key, sample=attrs.evolve(sample, name=key))


def around(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """Two rows with an operator between that no row has: it stays outside of what is delegated."""
    outside = _outside(session, recipe)
    held = _held(session, recipe) if outside is not None else {}
    names, count = sorted(held), 0
    for first in names:
        behind = ((n, _followed(held[first], held[n], outside)) for n in names)
        pairs = ((n, joined(firsts, held[n])) for n, firsts in behind if firsts)
        found = next(((n, sample) for n, sample in pairs if sample is not None), None)
        if found is not None:
            name = f"{first}+{found[0]}"
            yield Chain(kind="around", name=name, sample=attrs.evolve(found[1], name=name))
            count += 1
        if count == _AROUND[session.full]:
            return


def kept(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """Each operator of a row between two that are quantized, where an override keeps it in float."""
    partners = list(_partners(session, recipe))
    for row in session.own_rows(recipe.kernel):
        if session.is_fused(row) and not session.full:
            continue
        samples = usable(row, session.accepted(row, recipe))
        entries = {s.entry.base: s for s in reversed(samples) if s.entry is not None}
        for base, sample in sorted(entries.items()):
            middle = attrs.evolve(sample, module=_Kept(sample.module), entry=None)
            found = (_between(partner, middle) for partner in partners)
            between = next((each for each in found if each is not None), None)
            if between is not None:
                name = f"{row.name}/{base}"
                yield Chain(kind="kept", name=name, sample=attrs.evolve(between, name=name, keeps=True))


def _partners(session: Session, recipe: Recipe) -> Iterator[list[Sample]]:
    """Samples of the first rows of the table that take any shape, whichever rows were asked for."""
    rows = [row for row in session.subject.table or () if recipe.kernel in row.kernels and not row.converts]
    plain = ((row, next(of_row(row), None)) for row in rows if not session.is_fused(row))
    fitting = (
        (row, sample) for row, sample in plain
        if sample is not None and sample.entry is not None and sample.entry.any_rank
    )  # fmt: skip
    taken = ([s] for row, s in fitting if any(met.holds for met in session.met(row, recipe, s)))
    return itertools.islice(taken, _PARTNERS)


def _between(samples: list[Sample], middle: Sample) -> Sample | None:
    """A sample behind one of a row and before another of it."""
    before = joined(samples, [middle])
    return None if before is None else joined([before], samples)


class _Kept(nn.Module):  # type: ignore[misc]
    def __init__(self, kept: nn.Module) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.kept(*inputs)
        return made


def _followed(firsts: list[Sample], seconds: list[Sample], outside: nn.Module | None) -> list[Sample]:
    """The first ones with the function behind, one of them in the shape that the second ones have."""
    resized = reshaped(firsts[0], tuple(seconds[0].inputs[0].shape))
    return [
        attrs.evolve(sample, module=nn.Sequential(sample.module, outside), entry=None)
        for sample in (*firsts, *filter(None, [resized]))
        if outside is not None and len(sample.inputs) == 1
    ]


def _outside(session: Session, recipe: Recipe) -> nn.Module | None:
    """A function of each element without a row, which every runtime has."""
    free = {entry.base for entry in undeclared(session.subject.table, recipe.kernel)}
    name = next((name for name in _FUNCTIONS if name in free), None)
    return None if name is None else _Function(name)


class _Function(nn.Module):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = getattr(torch, self.name)(x)
        return made


def _triples(held: dict[str, list[Sample]], drawn: random.Random, count: int) -> Iterator[Chain]:
    names, found = sorted(held), 0
    for _ in range(count * 10 if len(names) > 1 else 0):
        chosen = [drawn.choice(names) for _ in range(3)]
        pair = joined(held[chosen[0]], held[chosen[1]])
        triple = None if pair is None else joined([pair], held[chosen[2]])
        if triple is not None:
            key = "+".join(chosen)
            yield Chain(kind="chain", name=key, sample=attrs.evolve(triple, name=key))
            found += 1
        if found == count:
            return


def _held(session: Session, recipe: Recipe) -> dict[str, list[Sample]]:
    """Plain samples of each row that reads an activation first and makes one float tensor."""
    found = {}
    for row in session.rows(recipe.kernel):
        samples = usable(row, session.plain(row, recipe))
        if samples and not (recipe.kernel is Kernel.FLOAT and not row.delegated):
            found[row.name] = samples
    return found
