"""Levels of groups: as few pieces as there are, no cycle between them, and what has to be given up."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx

from quanthost.graph.levels import by_level


def graph_of(*reads: Sequence[int]) -> tuple[fx.Graph, list[fx.Node]]:
    """A graph of an input and sums: each of the earlier nodes with the given numbers, 0 being the input."""
    graph = fx.Graph()
    nodes = [graph.placeholder("x")]
    for sources in reads:
        nodes.append(graph.call_function(sum, ([nodes[source] for source in sources],)))
    graph.output(nodes[-1])
    return graph, nodes


def test_neighbours_are_one_piece() -> None:
    """A chain without gaps."""
    graph, nodes = graph_of([0], [1], [2])
    assert by_level(graph, [nodes[1:2], nodes[2:3], nodes[3:4]]) == ([[0, 1, 2]], [])


def test_what_waits_for_something_outside_is_another_piece() -> None:
    """The last piece comes first; what lies beside the gap goes with the last it can."""
    graph, nodes = graph_of([0], [1], [2], [0], [3, 4])
    # 2 is outside: 1 lies before it, 3 and 5 behind it, and 4 waits for nothing
    groups = [[nodes[1]], [nodes[3]], [nodes[4]], [nodes[5]]]
    assert by_level(graph, groups) == ([[1, 2, 3], [0]], [])


def test_a_group_around_something_else_is_torn() -> None:
    """Its second half waits for what its first half gives to others."""
    graph, nodes = graph_of([0], [1], [1, 2], [3])
    assert by_level(graph, [[nodes[1], nodes[3]], [nodes[4]]]) == ([[1]], [0])


def test_groups_that_wait_for_each_other() -> None:
    """One is given up, the other stays."""
    graph, nodes = graph_of([0], [0], [1], [2], [3, 4])
    assert by_level(graph, [[nodes[1], nodes[4]], [nodes[2], nodes[3]]]) == ([[1]], [0])


def test_a_tuple_is_not_handed_on() -> None:
    """Whoever reads an element at another level is given up."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    pair = graph.call_function(torch.sort, (x,))
    first, second = (graph.call_function(operator.getitem, (pair, number)) for number in (0, 1))
    outside = graph.call_function(torch.relu, (first,))
    last = graph.call_function(torch.add, (outside, second))
    graph.output(last)
    assert by_level(graph, [[pair], [second, last]]) == ([[0]], [1])


def test_nothing() -> None:
    """No groups, no pieces."""
    graph, _ = graph_of([0])
    assert by_level(graph, []) == ([], [])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    """Edges of a random graph, and the group of each node, -1 for none."""
    count = draw(st.integers(1, 12))
    reads = [
        draw(st.lists(st.integers(0, number), min_size=1, max_size=3, unique=True)) for number in range(count)
    ]
    return reads, draw(st.lists(st.integers(-1, 5), min_size=count, max_size=count))


@given(cases())
def test_pieces_run_one_after_the_other(case: tuple[list[list[int]], list[int]]) -> None:
    """Contracted, pieces and other nodes have an order; each group is in one piece or torn."""
    reads, homes = case
    graph, nodes = graph_of(*reads)
    named = sorted(set(homes) - {-1})
    groups = [[node for node, home in zip(nodes[1:], homes) if home == name] for name in named]

    pieces, torn = by_level(graph, groups)

    assert sorted([*torn, *(number for piece in pieces for number in piece)]) == list(range(len(groups)))
    unit = {node: piece for piece, numbers in enumerate(pieces) for n in numbers for node in groups[n]}
    before: dict[object, set[object]] = {}
    for node in graph.nodes:
        before.setdefault(unit.get(node, node), set()).update(
            unit.get(source, source) for source in node.all_input_nodes
        )
    for name, sources in before.items():
        sources.discard(name)
    while ready := [name for name, sources in before.items() if not sources & before.keys()]:
        for name in ready:
            del before[name]
    assert not before
