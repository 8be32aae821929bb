"""What operators cost on a machine, as it was measured there: the data behind ``optimize_for="latency"``."""

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

    ``inputs`` are the shapes of the activations, ``weight`` is ``()`` where there is none, ``arguments``
    are all the other arguments as text, to tell two operators of the same shapes apart.
    """

    inputs: tuple[tuple[int, ...], ...] = attrs.field(converter=_shapes)
    weight: tuple[int, ...] = attrs.field(converter=checks.as_tuple, validator=_SHAPE)
    output: tuple[int, ...] = attrs.field(converter=checks.as_tuple, validator=_SHAPE)
    arguments: str = attrs.field(default="", validator=checks.kind(str))

    @property
    def work(self) -> int:
        """Multiplications where there is a weight, else elements read and written."""
        written = math.prod(self.output)
        if self.weight:
            return max(1, written * math.prod(self.weight[1:]))
        return max(1, written + sum(math.prod(shape) for shape in self.inputs))

    def distance(self, other: Sizes) -> float:
        """How far apart two operators are: differences of logarithms of what decides on a kernel's speed."""
        return sum(abs(a - b) for a, b in zip(self._features, other._features))

    @property
    def _features(self) -> tuple[float, ...]:
        read = sum(math.prod(shape) for shape in self.inputs)
        outer, inner, *window = (*self.weight, 1, 1)[: max(2, len(self.weight))]
        values = (read, math.prod(self.output), outer, inner, math.prod(window), len(self.inputs))
        return tuple(math.log1p(value) for value in values)


@attrs.frozen(kw_only=True)
class SiteCost:
    """Seconds that one operator (or fused pattern) of these sizes takes in a kernel, without conversions."""

    row: str = attrs.field(validator=checks.kind(str))
    kernel: Kernel = attrs.field(validator=checks.kind(Kernel))
    sizes: Sizes = attrs.field(validator=checks.kind(Sizes))
    seconds: float = attrs.field(validator=checks.kind(float))


@attrs.frozen(kw_only=True)
class ConversionCost:
    """Seconds that quantizing or dequantizing a tensor of so many elements takes, the mean of both."""

    elements: int = attrs.field(validator=checks.kind(int))
    seconds: float = attrs.field(validator=checks.kind(float))


@attrs.frozen(kw_only=True)
class CostTable:
    """All that was measured for a backend on one machine, and what could not be, with the reason."""

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
        """Both tables' measurements, the newer one's where both have one. Of one backend and machine."""
        sites = {(s.row, s.kernel, s.sizes): s for s in (*self.sites, *newer.sites)}
        conversions = {c.elements: c for c in (*self.conversions, *newer.conversions)}
        skipped = {**dict(self.skipped), **dict(newer.skipped)}
        return attrs.evolve(
            newer, sites=tuple(sites.values()), conversions=tuple(conversions.values()), skipped=skipped
        )


class Prices:
    """Answers to what an operator or a conversion costs, from a table: measured, or scaled from the nearest.

    What has the very sizes is taken as it was measured. Otherwise the measured operator of the same row and
    kernel with the nearest sizes is taken, its time scaled by the work of the two.
    """

    def __init__(self, table: CostTable) -> None:
        self.table = table
        self._known: dict[tuple[str, Kernel, Sizes], float] = {}
        self._of_row: dict[tuple[str, Kernel], list[SiteCost]] = defaultdict(list)
        for site in table.sites:
            self._known[site.row, site.kernel, site.sizes] = site.seconds
            self._of_row[site.row, site.kernel].append(site)
        self._conversions = sorted(table.conversions, key=lambda cost: cost.elements)

    def seconds(self, row: str, kernel: Kernel, sizes: Sizes) -> float | None:
        """Time of an operator, ``None`` where nothing of its row was measured in that kernel."""
        key = (row, kernel, sizes)
        if key not in self._known:
            listed = self._of_row.get((row, kernel))
            if not listed:
                return None
            nearest = min(listed, key=lambda site: site.sizes.distance(sizes))
            self._known[key] = nearest.seconds * sizes.work / nearest.sizes.work
        return self._known[key]

    def conversion(self, elements: int) -> float:
        """Time to quantize or dequantize so many elements; 0 where no conversion was measured."""
        if not self._conversions:
            return 0.0
        nearest = min(self._conversions, key=lambda c: abs(math.log((1 + c.elements) / (1 + elements))))
        return nearest.seconds * elements / nearest.elements


@attrs.frozen(kw_only=True)
class Latency:
    """What a placement for latency expected, in seconds for one call, and what was measured.

    ``expected`` is the sum over the operators that could be integer and their conversions as they were
    placed; ``all_integer`` and ``all_float`` are the same sum for the two extremes. ``unpriced`` are nodes
    that stayed integer without a measured cost. ``measured`` is the whole program's fastest call on the
    example inputs, ``None`` with the reason in ``note`` where it does not run here.
    """

    expected: float
    all_integer: float
    all_float: float
    table_machine: str
    unpriced: tuple[str, ...] = ()
    measured: float | None = None
    machine: str = ""
    note: str = ""
