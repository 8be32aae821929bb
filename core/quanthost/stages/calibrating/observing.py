"""Names the tensors that an observed graph collects statistics of, and moves statistics in and out of it."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping

from torch import fx

from quanthost.arith.channel_range import RangeStatistics, merge_ranges
from quanthost.graph.digest import float_digest
from quanthost.graph.rewrite import origin
from quanthost.graph.view import constant
from quanthost.stages.calibrating.statistics import StatisticsSource
from quanthost.stages.records import PreparedModel
from quanthost.toolchain.observers import RangeObserver

__all__ = [
    "data_observers",
    "load_statistics",
    "observe_constants",
    "observed_name",
    "observer_of",
    "read_statistics",
    "source_of_statistics",
    "tensors_that_need_data",
]

# torch computes the float tensors, quanthost sorts their values into bins
_VERSIONED = ("quanthost", "torch")


def data_observers(module: fx.GraphModule) -> dict[str, tuple[fx.Node, RangeObserver]]:
    """Observers of tensors that come from data, by name, each with the first node that calls it.

    The name joins the names of all tensors that share the observer; ``@axis`` follows where it is per
    channel.
    """
    nodes_by_observer: dict[RangeObserver, list[fx.Node]] = {}
    for node, observer in _data_observer_calls(module):
        nodes_by_observer.setdefault(observer, []).append(node)
    return {_name(observer, nodes): (nodes[0], observer) for observer, nodes in nodes_by_observer.items()}


def _data_observer_calls(module: fx.GraphModule) -> list[tuple[fx.Node, RangeObserver]]:
    pairs = [(node, observer_of(module, node)) for node in module.graph.nodes]
    return [(n, o) for n, o in pairs if o is not None and o.observes_data]


def tensors_that_need_data(module: fx.GraphModule) -> list[str]:
    """Names of the tensors whose static ranges only data can give."""
    return list(dict.fromkeys(observed_name(node) for node, _ in _data_observer_calls(module)))


def observed_name(node: fx.Node) -> str:
    """The captured node that produces the observed tensor; an override can use this name."""
    tensor = node.args[0]
    assert isinstance(tensor, fx.Node)
    return origin(tensor) or str(tensor.name)


def source_of_statistics(prepared: PreparedModel) -> StatisticsSource:
    """The model, graph and versions that statistics of this prepared model belong to."""
    versions = tuple((name, importlib.metadata.version(name)) for name in _VERSIONED)
    return StatisticsSource(prepared.captured.digest, float_digest(prepared.module), versions)


def observe_constants(module: fx.GraphModule) -> None:
    """Let the observers of weights and other constants read them."""
    for node in module.graph.nodes:
        observer = observer_of(module, node)
        if observer is not None and observer.once:
            value = constant(module, node.args[0])
            assert value is not None
            observer(value)


def read_statistics(module: fx.GraphModule) -> dict[str, RangeStatistics]:
    """The statistics of all observers of data, by name."""
    return {name: observer.statistics for name, (_, observer) in data_observers(module).items()}


def load_statistics(module: fx.GraphModule, tensors: Mapping[str, RangeStatistics]) -> list[str]:
    """Hand each observer its statistics; returns the names of observers that ``tensors`` lacks.

    Tensors may share an observer here and not where the statistics come from, or the other way round, as an
    override can change. Such an observer takes the statistics of all observers that its tensors had.
    """
    by_tensor = {tensor: name for name in reversed(list(tensors)) for tensor in _members(name)}
    missing = []
    for name, (_, observer) in data_observers(module).items():
        sources = {name} if name in tensors else {by_tensor.get(tensor, "") for tensor in _members(name)}
        if "" in sources:
            missing.append(name)
        else:
            observer.adopt(functools.reduce(merge_ranges, (tensors[source] for source in sorted(sources))))
    return missing


def _members(name: str) -> list[str]:
    """The tensors that share an observer, each with its axis: ``["a@0", "b@0"]`` of ``"a+b@0"``."""
    tensors, at, axis = name.partition("@")
    return [f"{tensor}{at}{axis}" for tensor in tensors.split("+")]


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
