"""Tensors that hold mask sentinels (-inf, -3e38): observing one would destroy its range."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import arguments
from quanthost.graph.view import GraphView

__all__ = ["SENTINEL", "nodes_with_sentinels"]

SENTINEL = 1e30


def nodes_with_sentinels(graph_module: fx.GraphModule) -> dict[fx.Node, str]:
    """Call nodes that read or write such a tensor, with the node that the sentinel comes from.

    A forward walk: a sentinel is a number or constant beyond ±1e30. It passes through every operator that
    does not bound its result.
    """
    view = GraphView(graph_module)
    holds: dict[fx.Node, str] = {}
    touched: dict[fx.Node, str] = {}
    for node in graph_module.graph.nodes:
        own = _own_sentinel(node, view)
        carried = next((holds[producer] for producer in node.all_input_nodes if producer in holds), None)
        source = carried if carried is not None else own
        if source is None:
            continue
        if node.op == "call_function":
            touched[node] = source
            if _bounds(node, own is not None and carried is not None):
                continue
        holds[node] = source
    return touched


def _bounds(node: fx.Node, clips_at_sentinel: bool) -> bool:
    """Whether the result is bounded; clipping a sentinel at another one leaves a sentinel."""
    facts = operator_facts(node)
    bounds = facts.clamps or ()
    return facts.absorbs_sentinels and not (clips_at_sentinel and any(isinstance(b, str) for b in bounds))


def _own_sentinel(node: fx.Node, view: GraphView) -> str | None:
    if node.op == "get_attr":
        value = view.constant(node)
        return str(node.name) if value is not None and _tensor_has_sentinel(value) else None
    if node.op == "call_function" and any(map(_is_sentinel, arguments(node).values())):
        return str(node.name)
    return None


def _is_sentinel(value: Any) -> bool:
    return isinstance(value, float) and not math.isnan(value) and abs(value) >= SENTINEL


def _tensor_has_sentinel(value: torch.Tensor) -> bool:
    if not value.is_floating_point() or value.numel() == 0:
        return False
    low, high = torch.aminmax(value.detach())
    return bool(high.abs() >= SENTINEL or low.abs() >= SENTINEL)
