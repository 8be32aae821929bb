"""Which tensors have one set of quantization parameters: sharing groups as one system, whatever the order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import attrs
from torch import fx

from quanthost.values import AnyQSpec, FixedQSpec, QSpec

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
        found: dict[_T, list[_T]] = {}
        for item in self._parent:
            found.setdefault(self.find(item), []).append(item)
        return list(found.values())


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

    ``specs`` are the wishes of all points, ``required`` the tuples of points that a kernel needs equal.
    A tensor's result and its uses are joined where their specs agree, since then one quantize serves
    all. A fixed spec is the group's; two different fixed specs, or specs that differ, under ``required``
    make a conflict. Where joining a result with its use would bring two fixed specs together, no such
    join is made in that group, so that the answer does not depend on the order of the graph.
    """
    hard: DisjointSets[Point] = DisjointSets(specs)
    for points in required:
        for point in points[1:]:
            hard.union(points[0], point)
    joins = list(_joins(specs))
    joined: DisjointSets[Point] = DisjointSets(specs)
    for first, second in (*_pairs(required), *joins):
        joined.union(first, second)
    for group in joined.groups():
        members = set(group)
        if len({specs[point] for point in group if isinstance(specs[point], FixedQSpec)}) > 1:
            continue
        for first, second in joins:
            if first in members:
                hard.union(first, second)
    return _collect(hard, specs, order)


def _pairs(required: Iterable[tuple[Point, ...]]) -> Iterable[tuple[Point, Point]]:
    for points in required:
        for point in points[1:]:
            yield points[0], point


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
    if isinstance(first, FixedQSpec) and isinstance(second, (QSpec, FixedQSpec)):
        return isinstance(second, QSpec) and _storage(first) == _storage(second)
    return isinstance(second, FixedQSpec) and isinstance(first, QSpec) and _storage(first) == _storage(second)


def _storage(spec: QSpec | FixedQSpec) -> tuple[object, int, int]:
    return spec.dtype, spec.quant_min, spec.quant_max


def _collect(sets: DisjointSets[Point], specs: dict[Point, AnyQSpec], order: dict[fx.Node, int]) -> Sharing:
    groups, chosen, conflicts = [], [], []
    for group in sets.groups():
        members = tuple(sorted(group, key=lambda point: _position(point, order)))
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
        fits = all(isinstance(s, QSpec) and _storage(s) == _storage(only) for s in free)
        return only if fits else None
    return next(iter(free)) if len(free) == 1 else None
