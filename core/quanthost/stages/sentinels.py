"""Tensors that hold mask sentinels (-inf, -3e38): observing one would destroy its range."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from quanthost.graph.operators import arguments, operator_name
from quanthost.graph.view import GraphView

__all__ = ["SENTINEL", "nodes_with_sentinels"]

SENTINEL = 1e30
# after these, a sentinel is an ordinary number again
_BOUNDING = frozenset(
    (
        *(
            "softmax",
            "_softmax",
            "log_softmax",
            "sigmoid",
            "tanh",
            "clamp",
            "hardtanh",
            "relu6",
            "hardsigmoid",
        ),
        *("exp", "embedding", "scaled_dot_product_attention", "argmax", "eq", "ne", "gt", "lt", "ge", "le"),
        *("isfinite", "isinf", "isneginf", "isnan", "logical_not", "bitwise_not"),
    )
)


def nodes_with_sentinels(graph_module: fx.GraphModule) -> dict[fx.Node, str]:
    """Call nodes that take or make such a tensor, with the node where the sentinel comes from.

    A forward walk: a sentinel is a number or constant beyond ±1e30, and passes through every operator
    that does not bound its result.
    """
    view = GraphView(graph_module)
    holds: dict[fx.Node, str] = {}
    touched: dict[fx.Node, str] = {}
    for node in graph_module.graph.nodes:
        source = _own_sentinel(node, view) or next(
            (holds[producer] for producer in node.all_input_nodes if producer in holds), None
        )
        if source is None:
            continue
        if node.op == "call_function":
            touched[node] = source
            if not _BOUNDING.isdisjoint(operator_name(node).split(".")[1:2]):
                continue
        holds[node] = source
    return touched


def _own_sentinel(node: fx.Node, view: GraphView) -> str | None:
    if node.op == "get_attr":
        value = view.constant(node)
        return node.name if value is not None and _tensor_has_sentinel(value) else None
    if node.op == "call_function" and any(map(_is_sentinel, arguments(node).values())):
        return node.name
    return None


def _is_sentinel(value: Any) -> bool:
    return isinstance(value, float) and not math.isnan(value) and abs(value) >= SENTINEL


def _tensor_has_sentinel(value: torch.Tensor) -> bool:
    if not value.is_floating_point() or value.numel() == 0:
        return False
    low, high = torch.aminmax(value.detach())
    return bool(high.abs() >= SENTINEL or low.abs() >= SENTINEL)
