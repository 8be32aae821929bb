"""Finds the inputs, buffers and parameters that a program writes into, directly or through views."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind

from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import arguments, overload

__all__ = ["Write", "find_writes"]

_STATISTICS = ("running_mean", "running_var")
_COUNTER = "num_batches_tracked"
_MUTATIONS = {
    OutputKind.BUFFER_MUTATION: InputKind.BUFFER,
    OutputKind.USER_INPUT_MUTATION: InputKind.USER_INPUT,
    OutputKind.PARAMETER_MUTATION: InputKind.PARAMETER,
}


@attrs.frozen(kw_only=True)
class Write:
    """A tensor that outlives a call of the program and is written by one.

    ``name`` is the dotted name of a parameter, buffer or constant, or the placeholder's name of an
    input. ``statistics`` marks what normalization in training form keeps count of.
    """

    kind: InputKind
    name: str
    node: fx.Node = attrs.field(eq=False)
    statistics: bool = False


def find_writes(exported: ExportedProgram) -> tuple[Write, ...]:
    """The first write to each tensor, in the order of the graph.

    Both forms count: operators that write in place, and (after decomposition) the graph's results that
    are to be copied back. Two tensors are one where their fake tensors have one storage.
    """
    specs = {spec.arg.name: spec for spec in exported.graph_signature.input_specs}
    holders = {
        node
        for node in exported.graph.nodes
        if node.op == "placeholder" and node.name in specs and not _is_copied_first(node)
    }
    by_storage = {_storage(node): node for node in holders if _storage(node) is not None}
    writes: dict[str, Write] = {}
    for node, written, statistics in _find_writers(exported.graph_module):
        holder = written if written in holders else by_storage.get(_storage(written))
        if holder is not None:
            write = _write(specs[holder.name], node, statistics)
            writes.setdefault(write.name, write)
    for write in _find_mutations(exported):
        writes.setdefault(write.name, write)
    return _with_counters(writes)


def _is_copied_first(holder: fx.Node) -> bool:
    """Whether it is a literal (``torch.tensor([1.0])``): each call works on a copy of it.

    The copy's fake tensor has the literal's storage all the same.
    """
    copied = (user.target is torch.ops.aten.lift_fresh_copy.default for user in holder.users)
    return bool(holder.users) and all(copied)


def _storage(node: fx.Node) -> int | None:
    value = node.meta.get("val")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None


def _write(spec: InputSpec, node: fx.Node, statistics: bool) -> Write:
    name = spec.arg.name if spec.target is None else spec.target
    return Write(kind=spec.kind, name=name, node=node, statistics=statistics)


def _find_writers(graph_module: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node, bool]]:
    """Each node that writes, the node it writes into, and whether that is statistics."""
    for module in graph_module.modules():
        if not isinstance(module, fx.GraphModule):
            continue
        for node in module.graph.nodes:
            op = overload(node) if node.op == "call_function" else None
            # such operators change sizes and strides, or detach, but no values
            if op is None or torch.Tag.inplace_view in op.tags:
                continue
            values = arguments(node)
            for parameter in op._schema.arguments:
                if parameter.is_write and isinstance(values[parameter.name], fx.Node):
                    yield node, values[parameter.name], False
            switch = operator_facts(node).statistics_switch
            for name in _STATISTICS if switch is not None and values[switch] is True else ():
                if isinstance(values[name], fx.Node):
                    yield node, values[name], True


def _find_mutations(exported: ExportedProgram) -> Iterator[Write]:
    nodes = {node.name: node for node in exported.graph.nodes}
    for spec in exported.graph_signature.output_specs:
        if spec.kind in _MUTATIONS and spec.target is not None:
            yield Write(kind=_MUTATIONS[spec.kind], name=spec.target, node=nodes[spec.arg.name])


def _with_counters(writes: dict[str, Write]) -> tuple[Write, ...]:
    """Mark the batch counter of running statistics as statistics."""
    counted = {write.name.rpartition(".")[0] for write in writes.values() if write.statistics}
    return tuple(
        attrs.evolve(write, statistics=True)
        if write.name.rpartition(".")[2] == _COUNTER and write.name.rpartition(".")[0] in counted
        else write
        for write in writes.values()
    )
