"""Renames and reorders the nodes of a graph without changing what it computes."""

from __future__ import annotations

import random
from typing import Any

from torch import fx

__all__ = ["rename", "shuffle"]


def rename(graph_module: fx.GraphModule) -> None:
    """Rename all operators, as another tracer might name them."""
    for number, node in enumerate(graph_module.graph.nodes):
        if node.op == "call_function":
            node._rename(f"renamed_{number}")
    graph_module.recompile()


def shuffle(graph_module: fx.GraphModule, seed: int) -> None:
    """Put the nodes in another topological order, drawn by the seed; inputs stay in front."""
    generator = random.Random(seed)
    nodes = list(graph_module.graph.nodes)
    end = nodes[-1]
    waiting = {node: len(node.all_input_nodes) for node in nodes[:-1]}
    ready = [node for node, count in waiting.items() if not count]
    fronts = [node for node in ready if node.op in ("placeholder", "get_attr")]
    order: list[Any] = []
    ready = [node for node in ready if node not in set(fronts)]
    for front in fronts:
        order.append(front)
        ready.extend(_release_users(front, waiting))
    while ready:
        node = ready.pop(generator.randrange(len(ready)))
        order.append(node)
        ready.extend(_release_users(node, waiting))
    for node in order:
        end.prepend(node)
    graph_module.graph.lint()
    graph_module.recompile()


def _release_users(node: fx.Node, waiting: dict[Any, int]) -> list[fx.Node]:
    ready = []
    for user in node.users:
        if user in waiting:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    return ready
