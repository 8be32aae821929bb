"""Builds samples, small modules with inputs: rows and operators at each variation."""

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

__all__ = [
    "Branches",
    "Regime",
    "Sample",
    "build_operator_samples",
    "build_row_samples",
    "find_undeclared",
    "list_variations",
    "reshape_sample",
]


class Regime(enum.Enum):
    """The range of the input values, in calibration and when the program runs.

    ``POSITIVE`` and ``NEGATIVE`` put the zero point at an end of the integer range. With ``APART``, each
    operand has large elements where the other has small ones, so that a product is far below what the
    operands' ranges allow.
    """

    PLAIN = "plain"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    TINY = "tiny"
    HUGE = "huge"
    APART = "apart"


_FACTORS = {Regime.TINY: 1e-3, Regime.HUGE: 1e4}
# far enough apart for the scale of a product to be a million times that of the result, whatever the lower
# limit of scales
_LARGE, _SMALL = 1e3, 1e-6


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """A module with inputs. ``row`` is the row whose pattern it has, ``entry`` its innermost operator.

    ``dynamic`` gives the dimensions of each input that may vary. Such inputs are one longer there than in the
    catalogue, so that the program can run at a smaller size too. With ``keeps_float`` an override keeps the
    submodule named ``kept`` in float. ``producer`` is the row whose result the sample's own row reads.
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
    keeps_float: bool = False
    producer: str | None = None

    @property
    def is_dynamic(self) -> bool:
        return any(self.dynamic)

    def shorten(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The inputs, one shorter along each dimension that may vary."""
        dynamic = self.dynamic or ((),) * len(inputs)
        return tuple(_shorten(x, dims) for x, dims in zip(inputs, dynamic, strict=True))

    def scale_to(self, regime: Regime) -> tuple[torch.Tensor, ...] | None:
        """The inputs in a regime, ``None`` if the operator is not defined for it."""
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
            return self._scale_apart()
        sign = 1.0 if regime is Regime.POSITIVE else -1.0
        return tuple(sign * (x.abs() + 0.1) if x.is_floating_point() else x for x in self.inputs)

    def _scale_apart(self) -> tuple[torch.Tensor, ...] | None:
        elementwise = self.entry is not None and self.entry.elementwise and bool(self.entry.scales_with)
        if not elementwise or len(self.inputs) != 2 or len({x.shape for x in self.inputs}) > 1:
            return None
        even = torch.arange(self.inputs[0].numel()).reshape(self.inputs[0].shape) % 2 == 0
        large_at = (even, ~even)
        return tuple(x * torch.where(at, _LARGE, _SMALL) for x, at in zip(self.inputs, large_at))


class Branches(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Samples as parallel branches of one program, each with its own inputs; outputs in order."""

    def __init__(self, samples: Sequence[Any]) -> None:
        super().__init__()
        self.cases = nn.ModuleList(sample.module for sample in samples)
        self.counts = tuple(len(sample.inputs) for sample in samples)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs: list[torch.Tensor] = []
        start = 0
        for module, count in zip(self.cases, self.counts):
            result = module(*inputs[start : start + count])
            outputs.extend(result if isinstance(result, tuple) else (result,))
            start += count
        return tuple(outputs)


def build_row_samples(row: Row) -> Iterator[Sample]:
    """The row's pattern with each variation of the operators that its innermost one may be."""
    if row.converts:
        return
    for entry, variation in list_variations(row):
        module = _build_module(row.pattern, variation, dict(row.roles))
        if module is not None:
            name = f"{row.name}/{entry.base}:{variation.name}"
            sample = _build_sample(name, module, variation, entry, row.name)
            yield attrs.evolve(sample, pattern=row.pattern, roles=row.roles)


def list_variations(row: Row) -> Iterator[tuple[Entry, Variation]]:
    """Each operator that the innermost one of a row's pattern may be, with each way to call it."""
    for name in dict.fromkeys(innermost(row.pattern).names) if fits(row.pattern) else ():
        for entry in entries_of(name):
            yield from ((entry, variation) for variation in entry.variations())


def reshape_sample(sample: Sample, shape: tuple[int, ...]) -> Sample | None:
    """The plain sample with operands of another shape, ``None`` if the operator needs its own shape."""
    entry, pattern = sample.entry, sample.pattern
    if entry is None or pattern is None or not entry.any_rank:
        return None
    resized = {name: entry.plain[name].resized(*shape) for name in entry.any_rank}
    variation = Variation(name="reshaped", operator=entry.name, arguments={**entry.plain, **resized})
    module = _build_module(pattern, variation, dict(sample.roles))
    return None if module is None else _build_sample(sample.name, module, variation, entry, sample.row)


def build_operator_samples(entry: Entry, names: Sequence[str] = ("plain",)) -> Iterator[Sample]:
    """An operator of the catalogue alone, at those of the named variations that it has."""
    for variation in entry.variations():
        module = _build_module(Op(names=(entry.name,)), variation, {}) if variation.name in names else None
        if module is not None:
            yield _build_sample(f"{entry.name}/{variation.name}", module, variation, entry, None)


def find_undeclared(table: SupportTable | None, kernel: Kernel) -> Iterator[Entry]:
    """The operators of the catalogue that are in no row's pattern for a kernel."""
    rows = [row for row in table or () if kernel in row.kernels]
    patterns = {name for row in rows for part in _walk(row.pattern) for name in part.names}
    for name, entry in CATALOGUE.items():
        if not any(name_matches(pattern, f"aten.{name}") for pattern in patterns):
            yield entry


def _walk(pattern: Op) -> Iterator[Op]:
    yield pattern
    for _, part in pattern.operands:
        if isinstance(part, Op):
            yield from _walk(part)


def _build_module(pattern: Op, variation: Variation, roles: Any) -> PatternModule | None:
    """``None`` if torch refuses the pattern with these arguments: there is nothing to support."""
    try:
        return module_of(pattern, variation, roles)
    except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError):
        return None


def _build_sample(
    name: str, module: PatternModule, variation: Variation, entry: Entry, row: str | None
) -> Sample:
    inputs = tuple(_lengthen(x, dims) for x, dims in zip(module.inputs, module.dynamic, strict=True))
    return Sample(
        name=name, module=module, inputs=inputs, variation=variation.name, row=row, entry=entry,
        dynamic=tuple(module.dynamic),
    )  # fmt: skip


def _lengthen(tensor: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    for dim in dims:
        tensor = torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim)
    return tensor


def _shorten(tensor: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    for dim in dims:
        tensor = tensor.narrow(dim, 0, tensor.shape[dim] - 1)
    return tensor.contiguous() if dims else tensor
