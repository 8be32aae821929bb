"""Rewriting a graph in place, keeping what tracing knows: fake tensors, origin, module and source line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from quanthost.graph.operators import functional_name, operator_name

__all__ = ["ORIGIN", "Rewriter", "functionalize", "origin", "tag_origins"]

ORIGIN = "quanthost"
_KEPT = ("custom", "nn_module_stack", "stack_trace", "source_fn_stack", "from_node")


def tag_origins(graph_module: fx.GraphModule) -> None:
    """Write each call node's name into its custom metadata, which survives convert and lowering."""
    for node in graph_module.graph.nodes:
        if node.op == "call_function":
            custom = dict(node.meta.get("custom") or {})
            custom.setdefault(ORIGIN, node.name)
            node.meta["custom"] = custom


def origin(node: fx.Node) -> str | None:
    """Name of the captured node that this node comes from, ``None`` for what a stage inserted."""
    name = (node.meta.get("custom") or {}).get(ORIGIN)
    return str(name) if name is not None else None


class Rewriter:
    """Inserts nodes before one node, each with its fake tensor and the metadata of the replaced node."""

    def __init__(self, graph_module: fx.GraphModule, node: fx.Node) -> None:
        self.graph_module = graph_module
        self.node = node
        self._meta = {key: node.meta[key] for key in _KEPT if key in node.meta}

    def call(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Insert a call and compute its fake result."""
        with self.graph_module.graph.inserting_before(self.node):
            made = self.graph_module.graph.call_function(target, args, kwargs)
        made.meta = dict(self._meta)
        fake = pytree.tree_map_only(fx.Node, lambda n: n.meta.get("val"), (args, kwargs))
        mode = next((v.fake_mode for v in pytree.tree_leaves(fake) if hasattr(v, "fake_mode")), None)
        if mode is not None:
            with mode, torch.no_grad():
                made.meta["val"] = target(*fake[0], **fake[1])
        return made

    def constant(self, value: torch.Tensor, name: str) -> fx.Node:
        """Insert a constant tensor as a buffer under a free name that starts with ``name``."""
        free = name
        count = 0
        while hasattr(self.graph_module, free):
            count += 1
            free = f"{name}_{count}"
        self.graph_module.register_buffer(free, value)
        with self.graph_module.graph.inserting_before(self.node):
            made = self.graph_module.graph.get_attr(free)
        made.meta = dict(self._meta)
        mode = getattr(self.node.meta.get("val"), "fake_mode", None)
        made.meta["val"] = value if mode is None else mode.from_tensor(value, static_shapes=True)
        return made

    def replace_with(self, made: fx.Node) -> None:
        """Give all users of the node the new one, and remove the node."""
        self.node.replace_all_uses_with(made)
        self.graph_module.graph.erase_node(self.node)


def functionalize(graph_module: fx.GraphModule) -> None:
    """Turn in-place activations and arithmetic into their functional twins, in place in the graph.

    Later users of the changed tensor read the twin's result, as eager execution would. A tensor that is a
    view of another one is left alone: what shares its storage would have to change as well.
    """
    order = {node: i for i, node in enumerate(graph_module.graph.nodes)}
    for node in list(graph_module.graph.nodes):
        twin = _functional_twin(node)
        if twin is None:
            continue
        changed = node.args[0]
        node.target = twin
        changed.replace_all_uses_with(node, delete_user_cb=lambda user, n=node: order[user] > order[n])
    graph_module.recompile()


def _functional_twin(node: fx.Node) -> Callable[..., Any] | None:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    name = operator_name(node)
    twin_name = functional_name(name)
    changed = node.args[0] if node.args else None
    if twin_name == name or not isinstance(changed, fx.Node) or _is_alias(changed):
        return None
    _, base, overload = twin_name.split(".")
    packet = getattr(torch.ops.aten, base, None)
    return getattr(packet, overload, None) if packet is not None else None


def _is_alias(node: fx.Node) -> bool:
    if node.op in ("placeholder", "get_attr"):
        return True
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return True
    returns_alias = any(r.alias_info is not None for r in target._schema.returns)
    return returns_alias or operator_name(node).split(".")[1] in ("reshape", "contiguous", "flatten", "chunk")
