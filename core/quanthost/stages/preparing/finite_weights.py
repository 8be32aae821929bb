"""Refuses weights and biases that are not finite: rounded to integers, they would become ordinary numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import fx

from quanthost.errors import CalibrationError
from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument
from quanthost.graph.provenance import NodeInfo
from quanthost.graph.view import constant
from quanthost.values import Cause, Decision

__all__ = ["refuse_infinite_weights"]


def refuse_infinite_weights(
    graph_module: fx.GraphModule, nodes: Iterable[NodeInfo], decisions: Iterable[Decision]
) -> None:
    """Check the constant operands of what sums products, unless an override keeps it in float.

    Raises:
        CalibrationError: one holds NaN or infinity; the error names it, and the node that reads it.
    """
    kept = {decision.node for decision in decisions if decision.cause is Cause.OVERRIDE}
    sources = {node.name: node.source for node in nodes}
    checked: set[str] = set()
    for node in graph_module.graph.nodes:
        if node.name in kept:
            continue
        for name, tensor in _operands(graph_module, node):
            problem = None if name in checked else _problem(tensor)
            checked.add(name)
            if problem is not None:
                raise CalibrationError(
                    f"{name} holds {problem}", needed="finite weights and biases", stage="prepare",
                    node=node.name, where=sources.get(node.name),
                    remedy="mend the checkpoint or the initialization, or keep the node in float by an "
                    "override",
                )  # fmt: skip


def _operands(graph_module: fx.GraphModule, node: fx.Node) -> Iterator[tuple[str, torch.Tensor]]:
    """The path and the value of each constant operand of a node that sums products."""
    facts = operator_facts(node) if node.op == "call_function" else None
    if facts is None or facts.factors is None:
        return
    for role in (*facts.factors, facts.bias):
        source = None if role is None else argument(node, role)
        if isinstance(source, fx.Node) and source.op == "call_module":
            # its observer
            source = source.args[0]
        tensor = constant(graph_module, source)
        if isinstance(source, fx.Node) and tensor is not None and tensor.is_floating_point():
            yield str(source.target), tensor.detach()


def _problem(tensor: torch.Tensor) -> str | None:
    # one pass over all finite weights: a sum of finite numbers may overflow, their extremes may not
    if tensor.numel() == 0 or bool(torch.stack(torch.aminmax(tensor)).isfinite().all()):
        return None
    nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    counts = [f"{count} {kind}" for count, kind in ((nan, "NaN"), (infinite, "infinite")) if count]
    return f"{' and '.join(counts)} of {tensor.numel()} values"
