"""Rewrites graphs in place and keeps what tracing recorded: fake tensors, origin, module and source line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.library import OpOverload
from torch.utils import _pytree as pytree

from quanthost.graph.operator_facts import facts_of, operator_facts
from quanthost.graph.operators import (
    argument,
    arguments,
    base_name,
    functional_name,
    operator_name,
    overload,
)
from quanthost.graph.view import storage, tensor_meta

__all__ = ["ORIGIN", "Rewriter", "drop_idle_dropout", "functionalize", "origin", "tag_origins"]

ORIGIN = "quanthost"
_INHERITED = ("custom", "nn_module_stack", "stack_trace", "source_fn_stack", "from_node")


def tag_origins(graph_module: fx.GraphModule) -> None:
    """Write each call node's name into its custom metadata, which survives convert and lowering."""
    for node in graph_module.graph.nodes:
        if node.op == "call_function":
            custom = dict(node.meta.get("custom") or {})
            custom.setdefault(ORIGIN, node.name)
            node.meta["custom"] = custom


def origin(node: fx.Node) -> str | None:
    """Name of the captured node that this node comes from, ``None`` if a stage inserted it."""
    name = (node.meta.get("custom") or {}).get(ORIGIN)
    return str(name) if name is not None else None


class Rewriter:
    """Inserts nodes before a node that they replace, with fake tensors and that node's metadata."""

    def __init__(self, graph_module: fx.GraphModule, node: fx.Node) -> None:
        self.graph_module = graph_module
        self.node = node
        self._meta = {key: node.meta[key] for key in _INHERITED if key in node.meta}

    def call(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Insert a call and compute its fake result."""
        with self.graph_module.graph.inserting_before(self.node):
            call = self.graph_module.graph.call_function(target, args, kwargs)
        call.meta = dict(self._meta)
        fake = _fake_result(target, args, kwargs)
        if fake is not None:
            call.meta["val"] = fake
        return call

    def constant(self, value: torch.Tensor, name: str) -> fx.Node:
        """Insert a constant tensor under a free name that starts with ``name``: a buffer, or a parameter."""
        free = name
        count = 0
        while hasattr(self.graph_module, free):
            count += 1
            free = f"{name}_{count}"
        if isinstance(value, nn.Parameter):
            self.graph_module.register_parameter(free, value)
        else:
            self.graph_module.register_buffer(free, value)
        with self.graph_module.graph.inserting_before(self.node):
            node = self.graph_module.graph.get_attr(free)
        node.meta = dict(self._meta)
        mode = _fake_mode(self.node.meta.get("val"))
        node.meta["val"] = value if mode is None else mode.from_tensor(value, static_shapes=True)
        return node

    def replace_with(self, replacement: fx.Node) -> None:
        """Let all users of the node read the replacement, and remove the node."""
        self.node.replace_all_uses_with(replacement)
        self.graph_module.graph.erase_node(self.node)


def _fake_mode(values: Any) -> Any | None:
    """The mode of the first fake tensor among values of any nesting."""
    return next((v.fake_mode for v in pytree.tree_leaves(values) if hasattr(v, "fake_mode")), None)


def _fake_result(target: Callable[..., Any], args: Any, kwargs: Any) -> Any | None:
    """The result of a call for the fake tensors of its arguments, ``None`` if tracing left none."""
    nodes = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, fx.Node)]
    if any("val" not in node.meta for node in nodes):
        return None
    fake_args, fake_kwargs = pytree.tree_map_only(fx.Node, lambda n: n.meta["val"], (args, kwargs))
    mode = _fake_mode((fake_args, fake_kwargs))
    if mode is None:
        return None
    with mode, torch.no_grad():
        return target(*fake_args, **fake_kwargs)


def functionalize(graph_module: fx.GraphModule) -> tuple[fx.Node, ...]:
    """Turn in-place activations and arithmetic into their functional twins, in place in the graph.

    Later users of the changed tensor read the twin's result, as in eager execution. An operator is left
    alone if it changes a view of another tensor, memory that outlives the call or that another node reads
    later, or if its twin would promote the dtype. The operators that are left and write into a tensor of
    the call are returned: quantization copies tensors, and a copy would not see the change.
    """
    order = {node: i for i, node in enumerate(graph_module.graph.nodes)}
    sharers: dict[int | None, list[fx.Node]] = defaultdict(list)
    for node in order:
        sharers[_memory(node)].append(node)
    sharers.pop(None, None)
    for node in order:
        if _is_idle_dropout(node):
            # it writes nothing
            node.target = getattr(torch.ops.aten, functional_name(operator_name(node)).split(".")[1]).default
            continue
        twin = _functional_twin(node)
        if twin is None or _is_visible_elsewhere(node, sharers.get(_memory(node.args[0]), ()), order):
            continue
        changed = node.args[0]
        node.target = twin
        changed.replace_all_uses_with(node, delete_user_cb=lambda user, n=node: order[user] > order[n])
    writers = tuple(_writers(graph_module))
    if writers:
        drop_idle_dropout(graph_module)
    graph_module.recompile()
    return writers


def drop_idle_dropout(graph_module: fx.GraphModule) -> None:
    """Replace dropout in evaluation by its input; decomposed, it would copy it."""
    for node in list(graph_module.graph.nodes):
        if operator_facts(node).is_dropout and not argument(node, "train"):
            node.replace_all_uses_with(argument(node, "input"))
            graph_module.graph.erase_node(node)
    graph_module.recompile()


def _is_idle_dropout(node: fx.Node) -> bool:
    """Whether it is dropout in place that does not train."""
    name = base_name(node)
    is_in_place = name.endswith("_") and facts_of(name.removesuffix("_")).is_dropout
    return is_in_place and not argument(node, "train")


def _writers(graph_module: fx.GraphModule) -> Iterator[fx.Node]:
    """Operators that write into a tensor of the call; statistics of training lie outside of it."""
    nodes = graph_module.graph.nodes
    outliving = {_memory(node) for node in nodes if node.op in ("placeholder", "get_attr")} - {None}
    for node in nodes:
        op = overload(node) if node.op == "call_function" else None
        if op is None or not op._schema.is_mutable or torch.Tag.inplace_view in op.tags:
            continue
        values = arguments(node)
        written = (values[parameter.name] for parameter in op._schema.arguments if parameter.is_write)
        if any(isinstance(value, fx.Node) and _memory(value) not in outliving for value in written):
            yield node


def _memory(node: fx.Node) -> int | None:
    """The memory of a node's result; outside of training, dropout returns its input."""
    while operator_facts(node).is_dropout and not argument(node, "train"):
        node = argument(node, "input")
    return storage(node)


def _is_visible_elsewhere(node: fx.Node, sharers: Iterable[fx.Node], order: dict[fx.Node, int]) -> bool:
    """Whether a change by ``node`` is visible through another node of the same memory, or after the call."""
    changed = node.args[0]
    others = (other for other in sharers if other is not changed and order[other] < order[node])
    return any(
        other.op != "call_function" or any(order[user] > order[node] for user in other.users)
        for other in others
    )


def _functional_twin(node: fx.Node) -> Callable[..., Any] | None:
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return None
    name = operator_name(node)
    twin_name = functional_name(name)
    changed = node.args[0] if node.args else None
    if twin_name == name or not isinstance(changed, fx.Node) or _is_alias(changed):
        return None
    namespace, base, overload = twin_name.split(".")
    packet = getattr(torch.ops.aten, base, None) if namespace == "aten" else None
    twin = getattr(packet, overload, None) if packet is not None else None
    return twin if twin is not None and _keeps_dtype(twin, node) else None


def _keeps_dtype(twin: Callable[..., Any], node: fx.Node) -> bool:
    """In place, a result has the dtype of the changed tensor, whatever the other operands have."""
    fake, before = _fake_result(twin, node.args, node.kwargs), tensor_meta(node.args[0])
    return fake is None or before is None or fake.dtype == before.dtype


def _is_alias(node: fx.Node) -> bool:
    if node.op in ("placeholder", "get_attr"):
        return True
    target = node.target
    return not isinstance(target, OpOverload) or any(
        result.alias_info is not None for result in target._schema.returns
    )
