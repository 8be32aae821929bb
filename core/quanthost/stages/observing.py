"""Which tensors of an observed graph have statistics, under which names, and of what origin they are."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from torch import fx

from quanthost.graph.digest import float_digest
from quanthost.graph.operators import operator_name
from quanthost.graph.rewrite import origin
from quanthost.graph.view import constant
from quanthost.stages.records import PreparedModel
from quanthost.stages.statistics import Measured, Origin
from quanthost.toolchain.observers import RangeObserver

__all__ = [
    "give",
    "needs_data",
    "observe_constants",
    "observed_name",
    "of_data",
    "origin_of",
    "taken",
    "without_repeats",
]

# operators of which each result is one of the values that they read
_SELECTING = (
    *(
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "t",
        "squeeze",
        "unsqueeze",
        "expand",
    ),
    *("contiguous", "clone", "alias", "slice", "select", "narrow", "max_pool1d", "max_pool2d"),
)

# what computes the float tensors, and what sorts their values into bins
_VERSIONED = ("quanthost", "torch")


def of_data(module: fx.GraphModule) -> dict[str, tuple[fx.Node, RangeObserver]]:
    """Observers of tensors that come from data, each with the node of its first tensor.

    The name joins those of all tensors that share the observer, and says along which axis it looks.
    """
    seen: dict[RangeObserver, list[fx.Node]] = {}
    for node, observer in _observing(module):
        seen.setdefault(observer, []).append(node)
    return {_name(observer, nodes): (nodes[0], observer) for observer, nodes in seen.items()}


def _observing(module: fx.GraphModule) -> list[tuple[fx.Node, RangeObserver]]:
    pairs = [(node, _observer(module, node)) for node in module.graph.nodes]
    return [(n, o) for n, o in pairs if o is not None and o.is_of_data]


def needs_data(module: fx.GraphModule) -> list[str]:
    """Names of the tensors whose ranges must come from data, by node; constants and dynamic ones don't."""
    return list(dict.fromkeys(observed_name(node) for node, _ in _observing(module)))


def observed_name(node: fx.Node) -> str:
    """The captured node that makes the tensor which an observer sees, so that an override can name it."""
    tensor = node.args[0]
    assert isinstance(tensor, fx.Node)
    return origin(tensor) or str(tensor.name)


def origin_of(prepared: PreparedModel) -> Origin:
    """What statistics of this model are of."""
    versions = tuple((name, importlib.metadata.version(name)) for name in _VERSIONED)
    return Origin(prepared.captured.digest, float_digest(prepared.module), versions)


def observe_constants(module: fx.GraphModule) -> None:
    """Let the observers of weights and other constants read them."""
    for node in module.graph.nodes:
        observer = _observer(module, node)
        if observer is not None and observer.once:
            held = constant(module, node.args[0])
            assert held is not None
            observer(held)


def without_repeats(module: fx.GraphModule) -> fx.GraphModule:
    """The graph with the same observers, none of which sees values again that it has just seen.

    An observer that tensors share looks at what a reshape or a maximum pooling reads, not at what it gives.
    """
    copies: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    graph.set_codegen(module.graph._codegen)
    for node in module.graph.nodes:
        made = graph.node_copy(node, copies.__getitem__)
        copies[node] = made
        if _repeats(module, node):
            copies[node] = copies[node.args[0]]
            graph.erase_node(made)
    return fx.GraphModule(module, graph)


def _repeats(module: fx.GraphModule, node: fx.Node) -> bool:
    observer = _observer(module, node)
    tensor = node.args[0] if observer is not None else None
    if not isinstance(tensor, fx.Node) or tensor.op != "call_function" or not tensor.args:
        return False
    before = tensor.args[0]
    if not isinstance(before, fx.Node) or _observer(module, before) is not observer:
        return False
    parts = operator_name(tensor).split(".")
    return parts[0] == "aten" and parts[1] in _SELECTING


def taken(module: fx.GraphModule) -> dict[str, Measured]:
    """The statistics of all observers of data, by name."""
    return {name: observer.statistics for name, (_, observer) in of_data(module).items()}


def give(module: fx.GraphModule, tensors: Mapping[str, Measured]) -> list[str]:
    """Hand each observer its statistics; the names of those for which there are none."""
    missing = []
    for name, (_, observer) in of_data(module).items():
        if name in tensors:
            observer.take(tensors[name])
        else:
            missing.append(name)
    return missing


def _observer(module: fx.GraphModule, node: fx.Node) -> RangeObserver | None:
    observer = getattr(module, str(node.target), None) if node.op == "call_module" else None
    return observer if isinstance(observer, RangeObserver) else None


def _name(observer: RangeObserver, nodes: list[fx.Node]) -> str:
    names = "+".join(sorted({_tensor_name(node) for node in nodes}))
    axis = getattr(observer.statistics, "axis", None)
    return names if axis is None else f"{names}@{axis}"


def _tensor_name(node: fx.Node) -> str:
    tensor = node.args[0]
    assert isinstance(tensor, fx.Node)
    return str(tensor.name)
