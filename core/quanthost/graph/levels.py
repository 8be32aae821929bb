"""Merges groups of nodes into as few pieces as possible without a cycle between the pieces."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TypeAlias

from torch import fx

__all__ = ["by_level"]

# a group by its number, or a node outside all groups
_Unit: TypeAlias = int | fx.Node


def by_level(graph: fx.Graph, groups: Sequence[Sequence[fx.Node]]) -> tuple[list[list[int]], list[int]]:
    """Groups by number, those that can be one piece together, from the end of the graph; and torn groups.

    A group's level is the number of times that a path from it leaves the groups and comes back, at most:
    groups of one level do not wait for each other through anything outside, whether they touch or not.
    Linear in nodes and edges. A group is torn if an outside node would have to run between its nodes, or if
    it reads an element of a tuple that another piece returns.
    """
    owner: dict[fx.Node, _Unit] = {node: number for number, nodes in enumerate(groups) for node in nodes}
    torn: list[int] = []
    while True:
        levels, stuck = _levels(graph, owner)
        stuck = stuck or _tuple_readers(graph, owner, levels)
        if not stuck:
            break
        given_up = min(stuck)
        torn.append(given_up)
        owner = {node: unit for node, unit in owner.items() if unit != given_up}
    pieces: list[list[int]] = [[] for _ in range(max(levels.values(), default=-1) + 1)]
    for number, level in sorted(levels.items()):
        pieces[level].append(number)
    return [piece for piece in pieces if piece], torn


def _levels(graph: fx.Graph, owner: dict[fx.Node, _Unit]) -> tuple[dict[int, int], list[int]]:
    """The level of each group, and the groups on or between cycles, which have none."""
    readers: dict[_Unit, set[_Unit]] = {}
    sources: dict[_Unit, set[_Unit]] = {}
    for node in graph.nodes:
        unit = owner.get(node, node)
        readers.setdefault(unit, set()), sources.setdefault(unit, set())
        for user in node.users:
            reader = owner.get(user, user)
            if reader != unit:
                readers[unit].add(reader)
                sources.setdefault(reader, set()).add(unit)
    order = _without_cycles(readers, sources)
    # the level of a group; for any other node, the lowest possible level of a group before it
    reached: dict[_Unit, int] = {}
    for unit in order:
        reached[unit] = max(
            (
                reached[reader] + (isinstance(reader, int) and not isinstance(unit, int))
                for reader in readers[unit]
            ),
            default=0,
        )
    if len(order) == len(readers):
        return {unit: level for unit, level in reached.items() if isinstance(unit, int)}, []
    left = readers.keys() - reached.keys()
    left -= set(_without_cycles(*({unit: ends[unit] & left for unit in left} for ends in (sources, readers))))
    return {}, [unit for unit in left if isinstance(unit, int)]


def _tuple_readers(graph: fx.Graph, owner: dict[fx.Node, _Unit], levels: dict[int, int]) -> list[int]:
    """Groups that read an element of a tuple from another level: a piece cannot return a tuple."""
    readers = []
    for node in graph.find_nodes(op="call_function", target=operator.getitem):
        reader, maker = owner.get(node), owner.get(node.all_input_nodes[0])
        if isinstance(reader, int) and isinstance(maker, int) and levels[reader] != levels[maker]:
            readers.append(reader)
    return readers


def _without_cycles(readers: dict[_Unit, set[_Unit]], sources: dict[_Unit, set[_Unit]]) -> list[_Unit]:
    """Units in an order in which readers come first, without units on or before a cycle."""
    waiting = {unit: len(units) for unit, units in readers.items()}
    ready = [unit for unit, count in waiting.items() if count == 0]
    order = []
    while ready:
        unit = ready.pop()
        order.append(unit)
        for source in sources[unit]:
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    return order
