"""Which tensors of an observed graph have statistics, under which names, and of what origin they are."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from torch import fx

from quanthost.arith.channel_range import RangeStatistics
from quanthost.graph.digest import float_digest
from quanthost.graph.rewrite import origin
from quanthost.graph.view import constant
from quanthost.stages.calibrating.statistics import Origin
from quanthost.stages.records import PreparedModel
from quanthost.toolchain.observers import RangeObserver

__all__ = [
    "give",
    "needs_data",
    "observe_constants",
    "observed_name",
    "observer_of",
    "of_data",
    "origin_of",
    "taken",
]

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
    pairs = [(node, observer_of(module, node)) for node in module.graph.nodes]
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
        observer = observer_of(module, node)
        if observer is not None and observer.once:
            held = constant(module, node.args[0])
            assert held is not None
            observer(held)


def taken(module: fx.GraphModule) -> dict[str, RangeStatistics]:
    """The statistics of all observers of data, by name."""
    return {name: observer.statistics for name, (_, observer) in of_data(module).items()}


def give(module: fx.GraphModule, tensors: Mapping[str, RangeStatistics]) -> list[str]:
    """Hand each observer its statistics; the names of those for which there are none."""
    missing = []
    for name, (_, observer) in of_data(module).items():
        if name in tensors:
            observer.take(tensors[name])
        else:
            missing.append(name)
    return missing


def observer_of(module: fx.GraphModule, node: fx.Node) -> RangeObserver | None:
    """The observer that a node calls."""
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
