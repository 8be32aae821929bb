"""Small modules with inputs that the suite runs: rows at each variation, operators alone, and chains."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import nn

from quanthost.catalogue import (
    CATALOGUE,
    Entry,
    PatternModule,
    Variation,
    entries_of,
    fits,
    innermost,
    module_of,
)
from quanthost.graph.operators import name_matches
from quanthost.graph.pattern import Op
from quanthost.graph.table import Row, SupportTable
from quanthost.values import Kernel, Role

__all__ = ["Branches", "Regime", "Sample", "of_operator", "of_row", "reshaped", "undeclared", "variations_of"]


class Regime(enum.Enum):
    """What the values of the inputs are like, for calibration and run alike.

    ``POSITIVE`` and ``NEGATIVE`` put the zero point at an end of the integers. In ``APART`` each of two
    operands is large where the other is small, so that a product is far below what their ranges allow.
    """

    PLAIN = "plain"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    TINY = "tiny"
    HUGE = "huge"
    APART = "apart"


_FACTORS = {Regime.TINY: 1e-3, Regime.HUGE: 1e4}
# far enough for a product's scale to be a million times the result's, which no floor of scales holds up
_LARGE, _SMALL = 1e3, 1e-6


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """A module with inputs. ``row`` is the row whose pattern it is, ``entry`` its innermost operator.

    ``dynamic`` gives the dimensions of each input that may vary; such inputs are one longer there than the
    catalogue has them, so that there is a smaller size to run at too. ``keeps`` says that what lies in a
    module named ``kept`` is to stay in float, by an override; ``follows`` is the row before the sample's own,
    which reads its result.
    """

    name: str
    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    variation: str = "plain"
    row: str | None = None
    entry: Entry | None = None
    pattern: Op | None = None
    roles: tuple[tuple[str, Role], ...] = ()
    dynamic: tuple[tuple[int, ...], ...] = ()
    keeps: bool = False
    follows: str | None = None

    @property
    def is_dynamic(self) -> bool:
        return any(self.dynamic)

    @property
    def elements(self) -> int:
        return sum(x.numel() for x in self.inputs)

    def shorter(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The inputs, one less along each dimension that may vary."""
        dynamic = self.dynamic or ((),) * len(inputs)
        return tuple(_narrowed(x, dims) for x, dims in zip(inputs, dynamic, strict=True))

    def in_regime(self, regime: Regime) -> tuple[torch.Tensor, ...] | None:
        """The inputs in a regime, ``None`` where the operator is not made for it."""
        if regime is Regime.PLAIN:
            return self.inputs
        floats = [x for x in self.inputs if x.is_floating_point()]
        signed = all(bool((x < 0).any()) for x in floats) and bool(floats)
        if regime in _FACTORS:
            if self.entry is None or not self.entry.scales_with or not signed:
                return None
            return tuple(x * _FACTORS[regime] if x.is_floating_point() else x for x in self.inputs)
        if not signed:
            return None
        if regime is Regime.APART:
            return self._apart()
        sign = 1.0 if regime is Regime.POSITIVE else -1.0
        return tuple(sign * (x.abs() + 0.1) if x.is_floating_point() else x for x in self.inputs)

    def _apart(self) -> tuple[torch.Tensor, ...] | None:
        elementwise = self.entry is not None and self.entry.elementwise and bool(self.entry.scales_with)
        if not elementwise or len(self.inputs) != 2 or len({x.shape for x in self.inputs}) > 1:
            return None
        even = torch.arange(self.inputs[0].numel()).reshape(self.inputs[0].shape) % 2 == 0
        large_at = (even, ~even)
        return tuple(x * torch.where(at, _LARGE, _SMALL) for x, at in zip(self.inputs, large_at))


class Branches(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Samples side by side in one program, each with inputs of its own; outputs in order."""

    def __init__(self, samples: Sequence[Any]) -> None:
        super().__init__()
        self.cases = nn.ModuleList(sample.module for sample in samples)
        self.counts = tuple(len(sample.inputs) for sample in samples)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs: list[torch.Tensor] = []
        start = 0
        for module, count in zip(self.cases, self.counts):
            made = module(*inputs[start : start + count])
            outputs.extend(made if isinstance(made, tuple) else (made,))
            start += count
        return tuple(outputs)


def of_row(row: Row) -> Iterator[Sample]:
    """The row's pattern with each variation of the operators that its innermost one may be."""
    if row.converts:
        return
    for entry, variation in variations_of(row):
        made = _made(row.pattern, variation, dict(row.roles))
        if made is not None:
            name = f"{row.name}/{entry.base}:{variation.name}"
            sample = _sample(name, made, variation, entry, row.name)
            yield attrs.evolve(sample, pattern=row.pattern, roles=row.roles)


def variations_of(row: Row) -> Iterator[tuple[Entry, Variation]]:
    """The operators that the innermost one of a row's pattern may be, each in every way to call it."""
    for name in dict.fromkeys(innermost(row.pattern).names) if fits(row.pattern) else ():
        for entry in entries_of(name):
            yield from ((entry, variation) for variation in entry.variations())


def reshaped(sample: Sample, shape: tuple[int, ...]) -> Sample | None:
    """The plain sample with operands of another shape, ``None`` where the operator is tied to its own."""
    entry, pattern = sample.entry, sample.pattern
    if entry is None or pattern is None or not entry.any_rank:
        return None
    resized = {name: entry.plain[name].resized(*shape) for name in entry.any_rank}
    variation = Variation(name="reshaped", operator=entry.name, arguments={**entry.plain, **resized})
    made = _made(pattern, variation, dict(sample.roles))
    return None if made is None else _sample(sample.name, made, variation, entry, sample.row)


def of_operator(entry: Entry, names: Sequence[str] = ("plain",)) -> Iterator[Sample]:
    """An operator of the catalogue alone, at the variations of these names that it has."""
    for variation in entry.variations():
        made = _made(Op(names=(entry.name,)), variation, {}) if variation.name in names else None
        if made is not None:
            yield _sample(f"{entry.name}/{variation.name}", made, variation, entry, None)


def undeclared(table: SupportTable | None, kernel: Kernel) -> Iterator[Entry]:
    """The operators of the catalogue that no row's pattern has for a kernel."""
    rows = [row for row in table or () if kernel in row.kernels]
    named = {name for row in rows for part in _parts(row.pattern) for name in part.names}
    for name, entry in CATALOGUE.items():
        if not any(name_matches(pattern, f"aten.{name}") for pattern in named):
            yield entry


def _parts(pattern: Op) -> Iterator[Op]:
    yield pattern
    for _, part in pattern.operands:
        if isinstance(part, Op):
            yield from _parts(part)


def _made(pattern: Op, variation: Variation, roles: Any) -> PatternModule | None:
    """``None`` where torch refuses the pattern with these arguments: there is nothing to support."""
    try:
        return module_of(pattern, variation, roles)
    except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError):
        return None


def _sample(name: str, module: PatternModule, variation: Variation, entry: Entry, row: str | None) -> Sample:
    inputs = tuple(_grown(x, dims) for x, dims in zip(module.inputs, module.dynamic, strict=True))
    return Sample(
        name=name, module=module, inputs=inputs, variation=variation.name, row=row, entry=entry,
        dynamic=tuple(module.dynamic),
    )  # fmt: skip


def _grown(tensor: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    for dim in dims:
        tensor = torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim)
    return tensor


def _narrowed(tensor: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    for dim in dims:
        tensor = tensor.narrow(dim, 0, tensor.shape[dim] - 1)
    return tensor.contiguous() if dims else tensor
