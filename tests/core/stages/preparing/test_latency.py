"""The cheapest placement between integers and float, against all placements of small graphs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from quanthost.stages.preparing.latency import Priced, _Cut, fastest, sizes_of
from quanthost.values import ConversionCost, CostTable, Prices

ELEMENTS = 1000


def prices(conversion: float) -> Prices:
    """A conversion of the tensors of these graphs costs so many seconds."""
    cost = ConversionCost(elements=ELEMENTS, seconds=conversion)
    return Prices(CostTable(backend="soc", machine="here", versions=(), sites=(), conversions=[cost]))


def graph(*reads: tuple[int, ...]) -> list[fx.Node]:
    """An input, and an operator for each tuple: what it reads, 0 is the input; the last is the result."""
    made = fx.Graph()
    nodes = [made.placeholder("x")]
    for sources in reads:
        nodes.append(made.call_function(torch.stack, ([nodes[i] for i in sources],)))
    made.output(nodes[-1])
    for node in nodes:
        node.meta["val"] = torch.empty(ELEMENTS)
    return nodes


def price(node: fx.Node, integer: float | None, in_float: float | None, *, converts: bool = True) -> Priced:
    return Priced(
        nodes=(node,), inputs=tuple(node.all_input_nodes), integer=integer, float=in_float, converts=converts
    )


def test_a_chain_that_pays_for_its_conversions() -> None:
    nodes = graph((0,), (1,), (2,))
    priced = [price(node, 1e-3, 2e-3) for node in nodes[1:]]
    slow, latency = fastest(priced, prices(1e-3))
    assert not slow
    assert latency.expected == pytest.approx(3e-3 + 2e-3)
    assert latency.all_float == pytest.approx(6e-3)


def test_a_chain_that_does_not() -> None:
    nodes = graph((0,), (1,))
    priced = [price(node, 1e-3, 2e-3) for node in nodes[1:]]
    slow, latency = fastest(priced, prices(1.5e-3))
    assert set(slow) == set(priced)
    assert latency.expected == pytest.approx(4e-3)
    assert "with the conversions that integers need here: 1000.0 µs in integers" in slow[priced[0]]


def test_one_in_the_middle_is_faster_in_float() -> None:
    nodes = graph((0,), (1,), (2,))
    priced = [price(nodes[1], 1e-3, 9e-3), price(nodes[2], 9e-3, 1e-3), price(nodes[3], 1e-3, 9e-3)]
    slow, _ = fastest(priced, prices(1e-3))
    assert list(slow) == [priced[1]]
    assert slow[priced[1]].startswith("faster in float: 9000.0 µs in integers, 1000.0 µs in float")


def test_what_has_no_price_stays() -> None:
    nodes = graph((0,), (1,))
    priced = [price(nodes[1], None, 1e-9), price(nodes[2], 1.0, 1e-9)]
    slow, latency = fastest(priced, prices(0.0))
    assert list(slow) == [priced[1]]
    assert latency.unpriced == (nodes[1].name,)


def test_kernels_that_take_float_convert_nothing() -> None:
    nodes = graph((0,), (1,))
    priced = [price(nodes[1], 1e-3, 2e-3, converts=False), price(nodes[2], 3e-3, 2e-3, converts=False)]
    slow, latency = fastest(priced, prices(1.0))
    assert list(slow) == [priced[1]]
    assert latency.expected == pytest.approx(3e-3)


def test_nothing_to_place() -> None:
    slow, latency = fastest([], prices(1.0))
    assert slow == {}
    assert latency.expected == 0


_TIMES = st.integers(0, 50).map(lambda units: units * 1e-6)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_placement_is_cheaper(data: st.DataObject) -> None:
    """Of all placements of graphs of up to five operators, with readers that are always float."""
    reads: list[tuple[int, ...]] = [
        tuple(data.draw(st.lists(st.integers(0, place), min_size=1, max_size=2, unique=True)))
        for place in range(data.draw(st.integers(1, 5)))
    ]
    nodes = graph(*reads)
    chosen = [node for node in nodes[1:] if data.draw(st.integers(0, 4))]
    priced = [price(node, data.draw(_TIMES), data.draw(_TIMES)) for node in chosen]
    cut = _Cut(priced, prices(data.draw(_TIMES)))
    found = cut.seconds(cut.solve())
    best = min(
        cut.seconds(set(subset))
        for count in range(len(priced) + 1)
        for subset in itertools.combinations(priced, count)
    )
    assert math.isclose(found, best, abs_tol=1e-9)


def test_sizes() -> None:
    nodes = graph((0,), (0, 1))
    found = sizes_of(nodes[2:3], nodes[:2], None, nodes[2])
    assert found is not None
    assert found.inputs == ((ELEMENTS,), (ELEMENTS,))
    assert found.output == (ELEMENTS,)
    del nodes[1].meta["val"]
    assert sizes_of(nodes[2:3], nodes[:2], None, nodes[2]) is None
