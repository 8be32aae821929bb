"""Placement for latency: chooses the operators that are faster in integers on a measured machine.

Each operator costs the time of its kernel. Each tensor that is written on one side and read on the other
costs a conversion, once for all its readers. The cheapest placement is a minimum cut between the integer and
the float side (Kolmogorov and Zabih, "What energy functions can be minimized via graph cuts?", 2004).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from torch import fx

from quanthost.graph.view import tensor_meta
from quanthost.values import Latency, Prices, Sizes

__all__ = ["Priced", "fastest", "sizes_of"]

_INTEGER, _FLOAT = "integer", "float"


@attrs.frozen(kw_only=True, eq=False)
class Priced:
    """An operator that could be integer: its nodes, its varying inputs, and its time on both sides.

    Times are seconds; an operator without measured times (``None``) stays integer. ``converts`` is false
    for kernels that read and write float tensors themselves (dynamic, weight-only).
    """

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    integer: float | None
    float: float | None
    converts: bool

    @property
    def output(self) -> fx.Node:
        return self.nodes[-1]


def sizes_of(
    nodes: Sequence[fx.Node], inputs: Sequence[fx.Node], weight: fx.Node | None, output: fx.Node
) -> Sizes | None:
    """The sizes of a matched place; ``None`` if a shape is not known as a number."""
    shapes = [_shape(node) for node in (*inputs, output)]
    weight_shape = () if weight is None else _shape(weight)
    if weight_shape is None or any(shape is None for shape in shapes):
        return None
    rest = ";".join(",".join(_plain(value) for value in node.args) for node in nodes)
    fixed = [shape for shape in shapes if shape is not None]
    return Sizes(inputs=fixed[:-1], weight=weight_shape, output=fixed[-1], arguments=rest)


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    meta = tensor_meta(node)
    if meta is None:
        return None
    sizes = [size if isinstance(size, int) else getattr(size.node, "hint", None) for size in meta.shape]
    fixed = [int(size) for size in sizes if size is not None]
    return tuple(fixed) if len(fixed) == len(sizes) else None


def _plain(value: object) -> str:
    """An argument that is no tensor, as text."""
    if isinstance(value, fx.Node):
        return ""
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_plain(item) for item in value) + "]"
    return str(value)


def fastest(priced: Sequence[Priced], prices: Prices) -> tuple[dict[Priced, str], Latency]:
    """Which operators are faster in float, each with the reason, and the times that were expected."""
    cut = _Cut(priced, prices)
    in_float = cut.solve()
    reasons = {each: _reason(each) for each in priced if each in in_float}
    latency = Latency(
        expected=cut.seconds(in_float),
        all_integer=cut.seconds(set()),
        all_float=cut.seconds({each for each in priced if _is_priced(each)}),
        table_machine=prices.table.machine,
        unpriced=tuple(each.output.name for each in priced if not _is_priced(each)),
    )
    return reasons, latency


def _is_priced(priced: Priced) -> bool:
    return priced.integer is not None and priced.float is not None


def _reason(priced: Priced) -> str:
    assert priced.integer is not None
    assert priced.float is not None
    times = f"{priced.integer * 1e6:.1f} µs in integers, {priced.float * 1e6:.1f} µs in float"
    if priced.float <= priced.integer:
        return f"faster in float: {times}"
    return f"faster in float with the conversions that integers need here: {times}"


@attrs.frozen(eq=False)
class _Tensor:
    """A tensor between two sides: its maker, its readers in integers or float, the time of its conversion."""

    maker: Priced | None
    readers: tuple[Priced, ...]
    read_in_float: bool
    seconds: float


class _Cut:
    """The operators and tensors of a graph as a sum of costs over two sides."""

    def __init__(self, priced: Sequence[Priced], prices: Prices) -> None:
        self._priced = priced
        converting = [each for each in priced if each.converts]
        makers = {each.output: each for each in converting}
        readers: dict[fx.Node, list[Priced]] = defaultdict(list)
        for each in converting:
            for node in each.inputs:
                readers[node].append(each)
        inside = {node for each in converting for node in each.nodes}
        self._tensors = [
            _Tensor(
                makers.get(node), tuple(readers[node]),
                any(user not in inside for user in node.users), prices.conversion(_elements(node)),
            )
            for node in dict.fromkeys((*makers, *readers))
        ]  # fmt: skip

    def seconds(self, in_float: set[Priced]) -> float:
        """The sum of a placement."""
        total = sum((each.float if each in in_float else each.integer) or 0.0 for each in self._priced)
        for tensor in self._tensors:
            made_in_float = tensor.maker is None or tensor.maker in in_float
            if made_in_float:
                total += tensor.seconds * any(reader not in in_float for reader in tensor.readers)
            else:
                read_in_float = tensor.read_in_float or any(r in in_float for r in tensor.readers)
                total += tensor.seconds * read_in_float
        return total

    def solve(self) -> set[Priced]:
        """The operators on the float side of a cheapest placement; integers where both sides are equal."""
        import networkx as nx
        from networkx.algorithms.flow import boykov_kolmogorov

        graph = nx.DiGraph()
        graph.add_nodes_from((_INTEGER, _FLOAT))
        add = _adder(graph)
        for each in self._priced:
            if not _is_priced(each):
                add(_INTEGER, each, math.inf)
                continue
            add(_INTEGER, each, each.float or 0.0)
            add(each, _FLOAT, each.integer or 0.0)
        for tensor in self._tensors:
            _add_tensor(tensor, add)
        _, (_, float_side) = nx.minimum_cut(graph, _INTEGER, _FLOAT, flow_func=boykov_kolmogorov)
        return {each for each in self._priced if each in float_side}


def _elements(node: fx.Node) -> int:
    return math.prod(_shape(node) or (1,))


def _adder(graph: Any) -> Callable[[object, object, float], None]:
    def add(source: object, target: object, seconds: float) -> None:
        # whole nanoseconds: sums of floats would leave residues that no flow can fill
        capacity = graph.get_edge_data(source, target, {}).get("capacity", 0)
        more = seconds if math.isinf(seconds) else round(seconds * 1e9)
        graph.add_edge(source, target, capacity=capacity + more)

    return add


def _add_tensor(tensor: _Tensor, add: Callable[[object, object, float], None]) -> None:
    """Quantized once where any reader wants integers, dequantized once where any wants float."""
    maker: object = _FLOAT if tensor.maker is None else tensor.maker
    if tensor.readers:
        as_integers = (tensor, _INTEGER)
        add(as_integers, maker, tensor.seconds)
        for reader in tensor.readers:
            add(reader, as_integers, math.inf)
    if tensor.maker is None:
        return
    if tensor.read_in_float:
        add(maker, _FLOAT, tensor.seconds)
    elif tensor.readers:
        as_float = (tensor, _FLOAT)
        add(maker, as_float, tensor.seconds)
        for reader in tensor.readers:
            add(as_float, reader, math.inf)
