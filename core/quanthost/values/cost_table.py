"""Measured costs of operators on a machine: the data behind ``optimize_for="latency"``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import attrs

from quanthost.values import checks
from quanthost.values.recipe import Kernel

__all__ = ["COSTS_FORMAT", "ConversionCost", "CostTable", "Latency", "Prices", "SiteCost", "Sizes"]

COSTS_FORMAT = 1

_SHAPE = checks.each(checks.kind(int))


def _shapes(value: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(shape) for shape in value)


@attrs.frozen(kw_only=True)
class Sizes:
    """The sizes on which the time of an operator depends.

    ``inputs`` are the shapes of the activations. ``weight`` is ``()`` if there is none. ``arguments`` are the
    other arguments as text, to distinguish operators of the same shapes.
    """

    inputs: tuple[tuple[int, ...], ...] = attrs.field(converter=_shapes)
    weight: tuple[int, ...] = attrs.field(converter=checks.as_tuple, validator=_SHAPE)
    output: tuple[int, ...] = attrs.field(converter=checks.as_tuple, validator=_SHAPE)
    arguments: str = attrs.field(default="", validator=checks.kind(str))

    @property
    def work(self) -> int:
        """The number of multiplications if there is a weight, else of elements read and written."""
        written = math.prod(self.output)
        if self.weight:
            return max(1, written * math.prod(self.weight[1:]))
        return max(1, written + sum(math.prod(shape) for shape in self.inputs))

    def distance(self, other: Sizes) -> float:
        """The distance of two operators: differences of the logarithms of sizes that determine speed."""
        return sum(abs(a - b) for a, b in zip(self._features, other._features))

    @property
    def _features(self) -> tuple[float, ...]:
        read = sum(math.prod(shape) for shape in self.inputs)
        outer, inner, *window = (*self.weight, 1, 1)[: max(2, len(self.weight))]
        values = (read, math.prod(self.output), outer, inner, math.prod(window), len(self.inputs))
        return tuple(math.log1p(value) for value in values)


@attrs.frozen(kw_only=True)
class SiteCost:
    """The seconds that an operator or fused pattern of these sizes takes in a kernel, without conversions."""

    row: str = attrs.field(validator=checks.kind(str))
    kernel: Kernel = attrs.field(validator=checks.kind(Kernel))
    sizes: Sizes = attrs.field(validator=checks.kind(Sizes))
    seconds: float = attrs.field(validator=checks.kind(float))


@attrs.frozen(kw_only=True)
class ConversionCost:
    """The mean seconds of quantizing and of dequantizing a tensor of that many elements."""

    elements: int = attrs.field(validator=checks.kind(int))
    seconds: float = attrs.field(validator=checks.kind(float))


@attrs.frozen(kw_only=True)
class CostTable:
    """All measurements for a backend on one machine; ``skipped`` has the reasons for missing ones."""

    backend: str = attrs.field(validator=checks.identifier())
    machine: str = attrs.field(validator=checks.kind(str))
    versions: tuple[tuple[str, str], ...] = attrs.field(converter=checks.as_pairs)
    sites: tuple[SiteCost, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.kind(SiteCost))
    )
    conversions: tuple[ConversionCost, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.kind(ConversionCost))
    )
    skipped: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=checks.as_pairs)
    format: int = COSTS_FORMAT

    def merged(self, newer: CostTable) -> CostTable:
        """The measurements of both tables, of one backend and machine; those of ``newer`` have priority."""
        sites = {(s.row, s.kernel, s.sizes): s for s in (*self.sites, *newer.sites)}
        conversions = {c.elements: c for c in (*self.conversions, *newer.conversions)}
        skipped = {**dict(self.skipped), **dict(newer.skipped)}
        return attrs.evolve(
            newer, sites=tuple(sites.values()), conversions=tuple(conversions.values()), skipped=skipped
        )


class Prices:
    """Estimates what an operator or a conversion costs, from a cost table.

    An operator of measured sizes has its measured time. Other sizes have the time of the nearest measured
    sizes of the same row and kernel, scaled by the work.
    """

    def __init__(self, table: CostTable) -> None:
        self.table = table
        self._seconds: dict[tuple[str, Kernel, Sizes], float] = {}
        self._of_row: dict[tuple[str, Kernel], list[SiteCost]] = defaultdict(list)
        for site in table.sites:
            self._seconds[site.row, site.kernel, site.sizes] = site.seconds
            self._of_row[site.row, site.kernel].append(site)
        self._conversions = sorted(table.conversions, key=lambda cost: cost.elements)

    def seconds(self, row: str, kernel: Kernel, sizes: Sizes) -> float | None:
        """The time of an operator, or ``None`` if its row was not measured in that kernel."""
        key = (row, kernel, sizes)
        if key not in self._seconds:
            measured = self._of_row.get((row, kernel))
            if not measured:
                return None
            nearest = min(measured, key=lambda site: site.sizes.distance(sizes))
            self._seconds[key] = nearest.seconds * sizes.work / nearest.sizes.work
        return self._seconds[key]

    def conversion(self, elements: int) -> float:
        """The time to quantize or dequantize that many elements; 0 if no conversion was measured."""
        if not self._conversions:
            return 0.0
        nearest = min(self._conversions, key=lambda c: abs(math.log((1 + c.elements) / (1 + elements))))
        return nearest.seconds * elements / nearest.elements


@attrs.frozen(kw_only=True)
class Latency:
    """The expected and measured times of a placement for latency, in seconds per call.

    ``expected`` is the sum over the operators that could be integer and their conversions, as placed;
    ``all_integer`` and ``all_float`` are the same sum for the two extremes. ``unpriced`` are nodes that
    stayed integer without a measured cost. ``measured`` is the program's fastest call on the example
    inputs, or ``None`` if it cannot run here; ``note`` then has the reason.
    """

    expected: float
    all_integer: float
    all_float: float
    table_machine: str
    unpriced: tuple[str, ...] = ()
    measured: float | None = None
    machine: str = ""
    note: str = ""
