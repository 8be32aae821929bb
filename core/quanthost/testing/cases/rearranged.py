"""Graphs with other names and in another order, which mean the same."""

from __future__ import annotations

import random
from typing import Any

from torch import fx

__all__ = ["rename", "shuffle"]


def rename(graph_module: fx.GraphModule) -> None:
    """Other names for all operators, as another tracer might give."""
    for number, node in enumerate(graph_module.graph.nodes):
        if node.op == "call_function":
            node._rename(f"renamed_{number}")
    graph_module.recompile()


def shuffle(graph_module: fx.GraphModule, seed: int) -> None:
    """Another topological order, drawn by the seed; inputs stay in front."""
    drawn = random.Random(seed)
    nodes = list(graph_module.graph.nodes)
    end = nodes[-1]
    waiting = {node: len(node.all_input_nodes) for node in nodes[:-1]}
    ready = [node for node, count in waiting.items() if not count]
    fronts = [node for node in ready if node.op in ("placeholder", "get_attr")]
    order: list[Any] = []
    ready = [node for node in ready if node not in set(fronts)]
    for front in fronts:
        order.append(front)
        ready.extend(_released(front, waiting))
    while ready:
        node = ready.pop(drawn.randrange(len(ready)))
        order.append(node)
        ready.extend(_released(node, waiting))
    for node in order:
        end.prepend(node)
    graph_module.graph.lint()
    graph_module.recompile()


def _released(node: fx.Node, waiting: dict[Any, int]) -> list[fx.Node]:
    freed = []
    for user in node.users:
        if user in waiting:
            waiting[user] -= 1
            if waiting[user] == 0:
                freed.append(user)
    return freed
