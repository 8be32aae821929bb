"""How much an operator computes, by the shapes that tracing saw."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import fx

from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument

__all__ = ["multiplications"]


def multiplications(node: fx.Node, tensor_of: Callable[[object], torch.Tensor | None]) -> int:
    """The number of multiplications in a product of matrices, a linear layer or a convolution.

    0 for other operators, for ``aten.convolution``, and where a size is unknown. ``tensor_of`` gives the
    tensor, real or fake, that a node stands for, ``None`` if there is none.
    """
    facts = operator_facts(node)
    if facts.factors is None or (facts.is_layer and facts.weight_axis is None):
        return 0
    tensors = [tensor_of(each) for each in (node, *(argument(node, name) for name in facts.factors))]
    shapes = [tuple(tensor.shape) for tensor in tensors if tensor is not None]
    if len(shapes) != 3 or not all(isinstance(size, int) for shape in shapes for size in shape):
        return 0
    result, first, second = shapes
    # a transposed convolution spreads each element of its input, others sum up each element of the result
    elements = math.prod(first if facts.weight_axis == 1 else result)
    products: int = math.prod(second[1:] if facts.is_convolution else first[-1:])
    return int(elements) * products
