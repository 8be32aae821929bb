"""Finds which tensors share quantization parameters; the result does not depend on the order of the graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import attrs
from torch import fx

from quanthost.values import AnyQSpec, FixedQSpec, Granularity, QSpec, Timing

__all__ = ["DisjointSets", "Point", "solve_sharing"]

_T = TypeVar("_T", bound=Hashable)


@attrs.frozen
class Point:
    """Where a tensor is quantized: the result of ``producer``, or (``consumer`` set) one of its uses."""

    producer: fx.Node
    consumer: fx.Node | None = None


class DisjointSets(Generic[_T]):
    """Union-find with path halving."""

    def __init__(self, items: Iterable[_T] = ()) -> None:
        self._parent: dict[_T, _T] = {item: item for item in items}

    def find(self, item: _T) -> _T:
        parent = self._parent
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def union(self, first: _T, second: _T) -> None:
        self._parent[self.find(second)] = self.find(first)

    def groups(self) -> list[list[_T]]:
        """The sets, in order of their first item."""
        groups: dict[_T, list[_T]] = {}
        for item in self._parent:
            groups.setdefault(self.find(item), []).append(item)
        return list(groups.values())


@attrs.frozen(kw_only=True)
class Sharing:
    """The solution: each point's group, each group's spec, and points of groups that have none."""

    groups: tuple[tuple[Point, ...], ...]
    specs: tuple[AnyQSpec, ...]
    conflicts: tuple[tuple[Point, ...], ...]


def solve_sharing(
    specs: dict[Point, AnyQSpec], required: Iterable[tuple[Point, ...]], order: dict[fx.Node, int]
) -> Sharing:
    """Solve the sharing constraints of a graph.

    ``specs`` are the qspecs that the points ask for, ``required`` tuples of points that a kernel needs
    equal. A tensor's result and its uses are joined where their specs agree, since one quantize then serves
    all. A fixed spec decides for its group. Required points conflict if two of them have different fixed
    specs, or specs that differ. If joining a result with its use would bring two fixed specs together, the
    whole group is not joined so, which makes the result independent of the order of the graph.
    """
    pairs = [(points[0], point) for points in required for point in points[1:]]
    solved = _unite(specs, pairs)
    clashing = {
        point
        for group in solved.groups()
        if _group_spec([specs[point] for point in group]) is None
        for point in group
    }
    joins = [join for join in _joins(specs) if clashing.isdisjoint(join)]
    joined = _unite(specs, [*pairs, *joins])
    fixed: dict[Point, set[FixedQSpec]] = {}
    for point, spec in specs.items():
        if isinstance(spec, FixedQSpec):
            fixed.setdefault(joined.find(point), set()).add(spec)
    for first, second in joins:
        if len(fixed.get(joined.find(first), ())) < 2:
            solved.union(first, second)
    return _collect(solved, specs, order)


def _unite(points: Iterable[Point], pairs: Iterable[tuple[Point, Point]]) -> DisjointSets[Point]:
    sets = DisjointSets(points)
    for first, second in pairs:
        sets.union(first, second)
    return sets


def _joins(specs: dict[Point, AnyQSpec]) -> Iterable[tuple[Point, Point]]:
    """Pairs of result and use, or use and use, of one tensor that can have one quantize."""
    by_producer: dict[fx.Node, list[Point]] = {}
    for point in specs:
        by_producer.setdefault(point.producer, []).append(point)
    for points in by_producer.values():
        points.sort(key=lambda point: point.consumer is not None)
        for i, first in enumerate(points):
            for second in points[i + 1 :]:
                if _agree(specs[first], specs[second]):
                    yield first, second


def _agree(first: AnyQSpec, second: AnyQSpec) -> bool:
    if first == second:
        return True
    return _takes(first, second) or _takes(second, first)


def _takes(spec: AnyQSpec, fixed: AnyQSpec) -> bool:
    """Whether a tensor with its own range can use the fixed range instead."""
    if not isinstance(spec, QSpec) or not isinstance(fixed, FixedQSpec):
        return False
    one_static = spec.timing is Timing.STATIC and spec.granularity is Granularity.PER_TENSOR
    return one_static and (spec.dtype, spec.quant_min, spec.quant_max) == (
        fixed.dtype, fixed.quant_min, fixed.quant_max,
    )  # fmt: skip


def _collect(sets: DisjointSets[Point], specs: dict[Point, AnyQSpec], order: dict[fx.Node, int]) -> Sharing:
    groups, chosen, conflicts = [], [], []
    ordered = [sorted(group, key=lambda point: _position(point, order)) for group in sets.groups()]
    for members in map(tuple, sorted(ordered, key=lambda group: _position(group[0], order))):
        spec = _group_spec([specs[point] for point in members])
        if spec is None:
            conflicts.append(members)
            continue
        groups.append(members)
        chosen.append(spec)
    return Sharing(groups=tuple(groups), specs=tuple(chosen), conflicts=tuple(conflicts))


def _position(point: Point, order: dict[fx.Node, int]) -> tuple[int, bool, int]:
    """Execution order: the uses that an operator makes, then its result."""
    if point.consumer is None:
        return order[point.producer], True, -1
    return order[point.consumer], False, order[point.producer]


def _group_spec(specs: list[AnyQSpec]) -> AnyQSpec | None:
    """The spec of a group: the fixed one, else the one that all have, else none."""
    fixed = {spec for spec in specs if isinstance(spec, FixedQSpec)}
    if len(fixed) > 1:
        return None
    free = {spec for spec in specs if not isinstance(spec, FixedQSpec)}
    if fixed:
        only = next(iter(fixed))
        return only if all(_takes(spec, only) for spec in free) else None
    return next(iter(free)) if len(free) == 1 else None
