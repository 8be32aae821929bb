"""How much an operator computes, by the shapes that tracing saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import fx

from quanthost.graph.operators import operator_name

__all__ = ["multiplications"]

_Shape = Sequence[int]


def _by_filter(result: _Shape, source: _Shape, weight: _Shape) -> int:
    return math.prod(result) * math.prod(weight[1:])


def _by_spread(result: _Shape, source: _Shape, weight: _Shape) -> int:
    return math.prod(source) * math.prod(weight[1:])


def _by_row(result: _Shape, left: _Shape, right: _Shape) -> int:
    return math.prod(result) * (left[-1] if left else 1)


# by the result, and the two operands that are multiplied, which are at these places
_COUNTED: Mapping[str, tuple[Callable[[_Shape, _Shape, _Shape], int], int]] = {
    **{f"conv{axes}d": (_by_filter, 0) for axes in (1, 2, 3)},
    **{f"conv_transpose{axes}d": (_by_spread, 0) for axes in (1, 2, 3)},
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "mv", "dot"), (_by_row, 0)),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), (_by_row, 1)),
}


def multiplications(node: fx.Node, shape_of: Callable[[object], Sequence[object] | None]) -> int:
    """Of a convolution or a product of matrices; 0 of all else, and where a size is not known.

    ``shape_of`` gives the shape of a node, ``None`` where it has none.
    """
    parts = operator_name(node).split(".")
    counted = _COUNTED.get(parts[1]) if parts[0] == "aten" and len(parts) > 1 else None
    if counted is None:
        return 0
    count, place = counted
    shapes = [shape_of(each) for each in (node, *node.args[place : place + 2])]
    known = [
        [size for size in shape if isinstance(size, int)]
        for shape in shapes
        if shape is not None and all(isinstance(size, int) for size in shape)
    ]
    return count(*known) if len(known) == 3 else 0
