"""Where the nodes of a graph stand in a picture: in layers from top to bottom, with few crossings.

The method of Sugiyama, Tagawa and Toda (1981): layers by the longest path, order by the mean of neighbours,
long edges through a place of their own in each layer that they cross. Within a layer, the places that are
wanted and the room that is needed meet by least squares (pool adjacent violators).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

__all__ = ["Layout", "lay_out"]

_SWEEPS = 8
# a long edge wants little room, and to be straight
_LANE = 0.15
# how much more the spine counts than what stands beside it
_FIRM = 1e6

# a node by name, or the place of a long edge in one layer
_Place: TypeAlias = "str | tuple[str, str, int]"


@attrs.frozen(kw_only=True)
class Layout:
    """Positions in units of one node: ``x`` is the middle, from 0; ``layer`` counts from the top.

    ``routes`` are the positions that an edge goes through, ends included.
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
    """Place nodes, given in topological order with what each reads of the others."""
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
    """The longest path to each node; what reads nothing stands right above its first reader."""
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
    found: list[str] = []
    node = max(layer, key=layer.__getitem__, default=None)
    while node is not None:
        found.append(node)
        previous = [source for source in reads[node] if layer[source] == layer[node] - 1]
        # what reads nothing was put there, and ends the path
        node = max(previous, key=lambda source: bool(reads[source]), default=None)
    return frozenset(found)


_Links: TypeAlias = Mapping[_Place, Sequence[_Place]]


def _order(rows: list[list[_Place]], above: _Links, below: _Links) -> None:
    """Sort each layer by the mean place of its neighbours, downwards and upwards in turn."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        links, listed = (above, rows) if down else (below, rows[::-1])
        place: dict[_Place, float] = {}
        for row in listed:
            wanted = {
                each: _mean([place[link] for link in links.get(each, ())], position)
                for position, each in enumerate(row)
            }
            row.sort(key=wanted.__getitem__)
            place.update({each: float(position) for position, each in enumerate(row)})


def _positions(
    rows: list[list[_Place]], above: _Links, below: _Links, spine: frozenset[_Place]
) -> dict[_Place, float]:
    """What is on the spine stands in one line; the rest near its neighbours."""
    x: dict[_Place, float] = {}
    for row in rows:
        x.update(zip(row, _spread([0.0] * len(row), row, spine)))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        links, listed = (above, rows) if down else (below, rows[::-1])
        for row in listed:
            wanted = [
                0.0 if each in spine else _mean([x[link] for link in links.get(each, ())], x[each])
                for each in row
            ]
            x.update(zip(row, _spread(wanted, row, spine)))
    left = min(x.values(), default=0.0)
    return {place: value - left for place, value in x.items()}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _spread(wanted: Sequence[float], row: Sequence[_Place], spine: frozenset[_Place]) -> list[float]:
    """The positions nearest to the wanted ones that leave each its room, in the order of the row."""
    room = [0.0]
    for left, right in itertools.pairwise(row):
        room.append(room[-1] + (_half(left) + _half(right)))
    # blocks of places that touch: weighted sum of what they want, weight, and number
    blocks: list[tuple[float, float, int]] = []
    for value, offset, place in zip(wanted, room, row):
        weight = _FIRM if place in spine else 1.0
        total, count = weight * (value - offset), 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / weight:
            earlier = blocks.pop()
            total, weight, count = total + earlier[0], weight + earlier[1], count + earlier[2]
        blocks.append((total, weight, count))
    moved = [total / weight for total, weight, count in blocks for _ in range(count)]
    return [value + offset for value, offset in zip(moved, room)]


def _half(place: _Place) -> float:
    return 0.5 if isinstance(place, str) else _LANE / 2
