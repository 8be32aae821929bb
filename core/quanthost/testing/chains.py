"""Samples one behind the other: pairs and chains of rows whose shapes go together."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import attrs
import torch
from torch import nn

from quanthost.graph.table import Row
from quanthost.testing.samples import Sample, of_row, reshaped, undeclared
from quanthost.testing.session import Session
from quanthost.values import Kernel, Recipe, Role

__all__ = ["Chain", "around", "chains", "kept"]

_PAIRS = {False: 1, True: 4}
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


class _Behind(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The second module reads the first one's result in place of its own first input."""

    def __init__(self, first: nn.Module, second: nn.Module, count: int) -> None:
        super().__init__()
        self.first, self.second, self.count = first, second, count

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.second(self.first(*inputs[: self.count]), *inputs[self.count :])
        return made


def chains(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """Each row behind others and before others, then some of three, drawn the same each time."""
    held = _held(session, recipe)
    names = sorted(held)
    drawn = random.Random(0)
    seen: set[str] = set()
    for name in names:
        for order in ("behind", "before"):
            others = drawn.sample(names, len(names))
            found = 0
            for other in others:
                pair = (other, name) if order == "behind" else (name, other)
                key = "+".join(pair)
                joined = None if key in seen else _joined(held[pair[0]], held[pair[1]])
                if joined is None:
                    continue
                seen.add(key)
                yield Chain(kind="pair", name=key, sample=attrs.evolve(joined, name=key))
                found += 1
                if found == _PAIRS[session.full]:
                    break
    yield from _triples(held, drawn, _TRIPLES[session.full])


def around(session: Session, recipe: Recipe) -> Iterator[Chain]:
    """Two rows with an operator between that no row has: it stays outside of what is delegated."""
    outside = _outside(session, recipe)
    held = _held(session, recipe) if outside is not None else {}
    names, count = sorted(held), 0
    for first in names:
        behind = ((n, _followed(held[first], held[n], outside)) for n in names)
        joined = ((n, _joined(firsts, held[n])) for n, firsts in behind if firsts)
        found = next(((n, sample) for n, sample in joined if sample is not None), None)
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
        usable = _usable(row, session.accepted(row, recipe))
        entries = {s.entry.base: s for s in reversed(usable) if s.entry is not None}
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
    before = _joined(samples, [middle])
    return None if before is None else _joined([before], samples)


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
        pair = _joined(held[chosen[0]], held[chosen[1]])
        triple = None if pair is None else _joined([pair], held[chosen[2]])
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
        samples = _usable(row, session.plain(row, recipe))
        if samples and not (recipe.kernel is Kernel.FLOAT and not row.delegated):
            found[row.name] = samples
    return found


def _usable(row: Row, samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if _is_plain(sample)] if _first_is_data(row) else []


def _first_is_data(row: Row) -> bool:
    captures = row.pattern.captures()
    return bool(captures) and row.role(captures[0]) in (Role.ACTIVATION, Role.WEIGHT, Role.BIAS)


def _is_plain(sample: Sample) -> bool:
    plain = not sample.is_dynamic and not sample.variation.endswith("read_twice")
    return (
        plain
        and bool(sample.inputs)
        and all(x.dtype is torch.float32 and x.numel() > 0 for x in sample.inputs)
    )


def _joined(firsts: list[Sample], seconds: list[Sample]) -> Sample | None:
    """The first two that go together: the result has the shape that the second's example has."""
    wanted = tuple(seconds[0].inputs[0].shape)
    for first in (*firsts, *filter(None, [reshaped(firsts[0], wanted)])):
        with torch.no_grad():
            made = first.module(*first.inputs)
        if not isinstance(made, torch.Tensor) or not made.is_floating_point():
            continue
        shape = tuple(made.shape)
        fitted = (s if s.inputs[0].shape == made.shape else reshaped(s, shape) for s in seconds)
        second = next((s for s in fitted if s is not None and _fits(s, made)), None)
        if second is None or not bool(torch.isfinite(made).all()):
            continue
        return Sample(
            name="", module=_Behind(first.module, second.module, len(first.inputs)),
            inputs=(*first.inputs, *second.inputs[1:]),
        )  # fmt: skip
    return None


def _fits(second: Sample, made: torch.Tensor) -> bool:
    """Whether the values are some that the second is made for: no logarithm of what is negative."""
    wanted = second.inputs[0]
    if float(made.min()) < 0 <= float(wanted.min()):
        return False
    with torch.no_grad():
        result = second.module(made, *second.inputs[1:])
    return (
        isinstance(result, torch.Tensor)
        and bool(torch.isfinite(result).all())
        and float(result.abs().max()) < 1e4
    )
