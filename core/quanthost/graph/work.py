"""How much an operator computes, by the shapes that tracing saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
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


def multiplications(node: fx.Node, tensor_of: Callable[[object], torch.Tensor | None]) -> int:
    """Of a convolution or a product of matrices; 0 of all else, and where a size is not known.

    ``tensor_of`` gives the tensor, real or fake, that a node stands for, ``None`` where there is none.
    """
    parts = operator_name(node).split(".")
    counted = _COUNTED.get(parts[1]) if parts[0] == "aten" and len(parts) > 1 else None
    if counted is None:
        return 0
    count, place = counted
    tensors = [tensor_of(each) for each in (node, *node.args[place : place + 2])]
    shapes = [tuple(tensor.shape) for tensor in tensors if tensor is not None]
    are_known = all(isinstance(size, int) for shape in shapes for size in shape)
    return count(*shapes) if are_known and len(shapes) == 3 else 0
