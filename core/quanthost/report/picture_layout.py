"""Computes positions of a graph's nodes for a picture: layers from top to bottom, with few crossings.

The method of Sugiyama, Tagawa and Toda (1981): layers by the longest path, order by the mean of neighbours,
and a place for long edges in each layer that they cross. Within a layer, least squares (pool adjacent
violators) fits the desired positions to the space that each node needs.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

__all__ = ["Layout", "lay_out"]

_SWEEPS = 8
# the width of a long edge's place
_LANE = 0.15
# the weight of nodes on the spine; others have 1
_SPINE_WEIGHT = 1e6

# a node by name, or the place of a long edge in one layer
_Place: TypeAlias = "str | tuple[str, str, int]"


@attrs.frozen(kw_only=True)
class Layout:
    """Positions in units of one node: ``x`` is the middle, from 0; ``layer`` counts from the top.

    ``routes`` are the positions on each edge, including its ends.
    """

    x: dict[str, float]
    layer: dict[str, int]
    routes: dict[tuple[str, str], tuple[tuple[float, int], ...]]

    @property
    def width(self) -> float:
        lanes = (x for route in self.routes.values() for x, _ in route)
        return max((*self.x.values(), *lanes), default=0.0) + 1

    @property
    def layers(self) -> int:
        return max(self.layer.values(), default=-1) + 1


def lay_out(reads: Mapping[str, Sequence[str]]) -> Layout:
    """Place nodes; ``reads`` has in topological order what each node reads."""
    layer = _layers(reads)
    edges = [(source, name) for name, sources in reads.items() for source in dict.fromkeys(sources)]
    rows: list[list[_Place]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in reads:
        rows[layer[name]].append(name)
    above: dict[_Place, list[_Place]] = defaultdict(list)
    below: dict[_Place, list[_Place]] = defaultdict(list)
    paths: dict[tuple[str, str], list[_Place]] = {}
    for source, target in edges:
        lanes: list[_Place] = [(source, target, i) for i in range(layer[source] + 1, layer[target])]
        for i, lane in enumerate(lanes, layer[source] + 1):
            rows[i].append(lane)
        path = paths[source, target] = [source, *lanes, target]
        for upper, lower in itertools.pairwise(path):
            below[upper].append(lower)
            above[lower].append(upper)
    _order(rows, above, below)
    x = _positions(rows, above, below, _spine(reads, layer))
    routes = {
        edge: tuple((x[place], layer[edge[0]] + i) for i, place in enumerate(path))
        for edge, path in paths.items()
    }
    return Layout(x={name: x[name] for name in reads}, layer=layer, routes=routes)


def _layers(reads: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The longest path to each node; a node that reads nothing is right above its first reader."""
    layer: dict[str, int] = {}
    for name, sources in reads.items():
        layer[name] = max((layer[source] + 1 for source in sources), default=0)
    first: dict[str, int] = {}
    for name, sources in reads.items():
        for source in sources:
            first[source] = min(first.get(source, layer[name]), layer[name])
    lifted = {name: first[name] - 1 for name, sources in reads.items() if not sources and name in first}
    return {**layer, **lifted}


def _spine(reads: Mapping[str, Sequence[str]], layer: Mapping[str, int]) -> frozenset[_Place]:
    """The nodes of a longest path from top to bottom."""
    path: list[str] = []
    node = max(layer, key=layer.__getitem__, default=None)
    while node is not None:
        path.append(node)
        previous = [source for source in reads[node] if layer[source] == layer[node] - 1]
        # a node that reads nothing was moved down to its reader, and ends the path
        node = max(previous, key=lambda source: bool(reads[source]), default=None)
    return frozenset(path)


_Links: TypeAlias = Mapping[_Place, Sequence[_Place]]


def _order(rows: list[list[_Place]], above: _Links, below: _Links) -> None:
    """Sort each layer by the mean place of its neighbours, downwards and upwards in turn."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        links, listed = (above, rows) if down else (below, rows[::-1])
        place: dict[_Place, float] = {}
        for row in listed:
            means = {
                each: _mean([place[link] for link in links.get(each, ())], position)
                for position, each in enumerate(row)
            }
            row.sort(key=means.__getitem__)
            place.update({each: float(position) for position, each in enumerate(row)})


def _positions(
    rows: list[list[_Place]], above: _Links, below: _Links, spine: frozenset[_Place]
) -> dict[_Place, float]:
    """Place the spine in one straight line, and the other nodes near their neighbours."""
    x: dict[_Place, float] = {}
    for row in rows:
        x.update(zip(row, _spread([0.0] * len(row), row, spine)))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        links, listed = (above, rows) if down else (below, rows[::-1])
        for row in listed:
            desired = [
                0.0 if each in spine else _mean([x[link] for link in links.get(each, ())], x[each])
                for each in row
            ]
            x.update(zip(row, _spread(desired, row, spine)))
    left = min(x.values(), default=0.0)
    return {place: value - left for place, value in x.items()}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _spread(desired: Sequence[float], row: Sequence[_Place], spine: frozenset[_Place]) -> list[float]:
    """The positions nearest to the desired ones that do not overlap, in the order of the row."""
    offsets = [0.0]
    for left, right in itertools.pairwise(row):
        offsets.append(offsets[-1] + (_half_width(left) + _half_width(right)))
    # blocks of adjacent places: weighted sum of their desired positions, weight, and number
    blocks: list[tuple[float, float, int]] = []
    for value, offset, place in zip(desired, offsets, row):
        weight = _SPINE_WEIGHT if place in spine else 1.0
        total, count = weight * (value - offset), 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / weight:
            earlier = blocks.pop()
            total, weight, count = total + earlier[0], weight + earlier[1], count + earlier[2]
        blocks.append((total, weight, count))
    starts = [total / weight for total, weight, count in blocks for _ in range(count)]
    return [value + offset for value, offset in zip(starts, offsets)]


def _half_width(place: _Place) -> float:
    return 0.5 if isinstance(place, str) else _LANE / 2
