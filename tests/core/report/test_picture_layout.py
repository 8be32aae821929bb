"""Layered layout: nothing overlaps, edges point down, and the longest path is a straight line."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from quanthost.report.picture_layout import Layout, lay_out

# what each node reads
CHAIN = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}
DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
SKIP = {"a": [], "b": ["a"], "c": ["b"], "d": ["c", "a"]}
WEIGHTS = {"x": [], "a": ["x"], "w": [], "b": ["a", "w"], "v": [], "c": ["b", "v"]}


def random_graph(seed: int) -> dict[str, list[str]]:
    """Forty nodes, each reading up to three earlier ones."""
    rng = random.Random(seed)
    names = [f"n{i}" for i in range(40)]
    return {name: sorted(rng.sample(names[:i], min(i, rng.randint(0, 3)))) for i, name in enumerate(names)}


GRAPHS = {"chain": CHAIN, "diamond": DIAMOND, "skip": SKIP, "weights": WEIGHTS} | {
    f"random_{seed}": random_graph(seed) for seed in range(6)
}


def _gaps(layout: Layout) -> list[float]:
    """Distances of adjacent nodes."""
    rows = defaultdict(list)
    for name, x in layout.x.items():
        rows[layout.layer[name]].append(x)
    return [right - left for row in rows.values() for left, right in zip(sorted(row), sorted(row)[1:])]


@pytest.mark.parametrize("name", GRAPHS)
def test_laws(name: str) -> None:
    """Edges point down layer by layer, boxes do not overlap, all lie inside the width; it is stable."""
    reads = GRAPHS[name]
    layout = lay_out(reads)
    assert set(layout.x) == set(reads)
    for target, sources in reads.items():
        for source in sources:
            assert layout.layer[source] < layout.layer[target]
            route = layout.routes[source, target]
            assert [layer for _, layer in route] == list(
                range(layout.layer[source], layout.layer[target] + 1)
            )
            assert (route[0][0], route[-1][0]) == (layout.x[source], layout.x[target])
    assert min(_gaps(layout), default=1.0) >= 1 - 1e-9
    xs = [x for route in layout.routes.values() for x, _ in route] + list(layout.x.values())
    assert min(xs) >= 0
    assert max(xs) <= layout.width - 1
    assert layout.layers == max(layout.layer.values()) + 1
    assert lay_out(reads) == layout


def test_long_edges_pass_beside_boxes() -> None:
    """A skip connection does not run through the nodes that it skips."""
    layout = lay_out(SKIP)
    for x, layer in layout.routes["a", "d"][1:-1]:
        (between,) = (layout.x[name] for name, at in layout.layer.items() if at == layer)
        assert abs(x - between) >= 0.5


def test_the_longest_path_is_straight() -> None:
    """The longest path is straight with any neighbours; a node that reads nothing is above its reader."""
    layout = lay_out(WEIGHTS)
    assert len({round(layout.x[name], 3) for name in "xabc"}) == 1
    assert [layout.layer[name] for name in "xawbvc"] == [0, 1, 1, 2, 2, 3]


def test_a_graph_of_nothing() -> None:
    """An empty graph has no layers, and a width."""
    assert (lay_out({}).layers, lay_out({}).width) == (0, 1)


def test_many_layers_and_long_edges_are_laid_out_in_time() -> None:
    """A chain of 500 nodes whose first is read by each tenth: no more than some hundred thousand places."""
    reads = {f"n{i}": ([f"n{i - 1}"] if i else []) + (["n0"] if i % 10 == 9 else []) for i in range(500)}
    layout = lay_out(reads)
    assert layout.layers == 500
    assert min(_gaps(layout), default=1.0) >= 1 - 1e-9
