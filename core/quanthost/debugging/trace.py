"""``trace``: records the graph after each stage, from capture to delegation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from torch import fx
from torch.export import ExportedProgram

from quanthost.debugging.row_attempts import tensor_text
from quanthost.errors import QuanthostError
from quanthost.graph.digest import node_line
from quanthost.graph.operators import operator_name
from quanthost.graph.rewrite import origin
from quanthost.graph.view import GraphView, is_dequantize, is_quantize
from quanthost.hooks.manager import Plugins
from quanthost.stages.calibrating.calibrate import calibrate
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.converting.convert import convert
from quanthost.stages.lowering.lower import lower
from quanthost.stages.preparing.prepare import plan, prepare
from quanthost.toolchain.edge import delegate_of
from quanthost.toolchain.partition import TAG, Partitioner
from quanthost.values import Decision, Request, Verdict
from quanthost.values.traced_graph import Mark, Trace, TracedGraph, TracedNode

__all__ = ["trace"]

_MARKS = {
    Verdict.QUANTIZED: Mark.QUANTIZED,
    Verdict.FLOAT: Mark.FLOAT,
    Verdict.FOLDED: Mark.FOLDED,
}
_PLAIN = {"placeholder": Mark.INPUT, "output": Mark.OUTPUT, "call_module": Mark.OBSERVER}
# mark, reason and partition
_MarkText = tuple[Mark, str, str | None]


def trace(captured: CapturedModel, plugins: Plugins, request: Request) -> Trace:
    """Run all stages, with ranges from the example inputs, and record the graph after each.

    Stages are ``captured``; ``transformed``, after the backends' rewrites, before annotation;
    ``prepared``; ``converted``; ``edge``, with the partitions, for each partitioner; and ``delegated``.

    Raises:
        QuanthostError: ``prepare`` would raise it. If a later stage refuses, the note says why.
    """
    planned = plan(captured, plugins, request)
    decisions = {decision.node: decision for decision in planned.decisions}
    chosen = {node for match in planned.plan.matches for node in match.nodes}
    by_origin = _by_origin(decisions)

    def by_plan(node: fx.Node) -> _MarkText:
        mark, reason, _ = by_origin(node)
        return (Mark.QUANTIZED if node in chosen else mark), reason, None

    graphs = [
        _graph("captured", captured.exported.graph_module, by_origin, captured.exported),
        _graph("transformed", planned.rewritten, by_plan),
    ]
    note = ""
    try:
        prepared = prepare(captured, plugins, request)
        graphs.append(_graph("prepared", prepared.module, by_origin))
        converted = convert(calibrate(prepared, [captured.example_batch()]))
        graphs.append(_graph("converted", converted.module, by_origin))
        lower(converted, watch=_Edges(graphs=graphs, decisions=decisions).see)
    except QuanthostError as error:
        note = f"stopped: {str(error).splitlines()[0]}"
    return Trace(
        model=captured.model_class, backends=request.backends, recipe=request.recipe, graphs=graphs, note=note
    )


def _graph(
    stage: str,
    graph_module: fx.GraphModule,
    mark_of: Callable[[fx.Node], _MarkText],
    exported: ExportedProgram | None = None,
) -> TracedGraph:
    view = GraphView(graph_module, exported)
    return TracedGraph(stage=stage, nodes=[_node(node, view, mark_of) for node in graph_module.graph.nodes])


def _node(node: fx.Node, view: GraphView, mark_of: Callable[[fx.Node], _MarkText]) -> TracedNode:
    if node.op == "get_attr" or (node.op == "placeholder" and view.is_constant(node)):
        mark, reason, partition = Mark.CONSTANT, "", None
    elif node.op in _PLAIN:
        mark, reason, partition = _PLAIN[node.op], "", None
    else:
        mark, reason, partition = mark_of(node)
    tensor = tensor_text(node)
    return TracedNode(
        name=node.name, mark=mark, line=node_line(node), reason=reason, partition=partition,
        operator=operator_name(node) if node.op == "call_function" else node.op,
        inputs=[read.name for read in node.all_input_nodes], origin=origin(node),
        tensor="" if tensor == "?" else tensor,
    )  # fmt: skip


def _by_origin(decisions: Mapping[str, Decision]) -> Callable[[fx.Node], _MarkText]:
    """Marks by the decision on a node's origin; nodes that a stage inserted are float."""

    def mark_of(node: fx.Node) -> _MarkText:
        if is_quantize(node) or is_dequantize(node):
            return Mark.CONVERSION, "", None
        decision = decisions.get(origin(node) or node.name)
        return (
            (Mark.FLOAT, "", None) if decision is None else (_MARKS[decision.verdict], decision.reason, None)
        )

    return mark_of


def _is_element(node: fx.Node) -> bool:
    return operator_name(node) == "getitem"


@attrs.define(kw_only=True)
class _Edges:
    """Adds the edge graphs during lowering."""

    graphs: list[TracedGraph]
    decisions: dict[str, Decision]
    partitioners: int = 0

    def see(self, partitioner: Partitioner | None, exported: ExportedProgram) -> None:
        """Add the graph with a partitioner's partitions, or the final graph."""
        name = "delegated"
        if partitioner is not None:
            self.partitioners += 1
            name = "edge" if self.partitioners == 1 else f"edge_{self.partitioners}"
        self.graphs.append(_graph(name, exported.graph_module, self._mark_of, exported))

    def _mark_of(self, node: fx.Node) -> _MarkText:
        delegate = delegate_of(node)
        if delegate is not None:
            return Mark.DELEGATE, delegate, None
        if any(delegate_of(read) is not None for read in node.all_input_nodes) and _is_element(node):
            return Mark.DELEGATE, "a result of the delegate", None
        partition: Any = node.meta.get(TAG)
        decision = self.decisions.get(origin(node) or "")
        reason = "" if decision is None else decision.reason
        if partition is not None:
            return Mark.DELEGATED, reason, str(partition)
        if is_quantize(node) or is_dequantize(node):
            return Mark.CONVERSION, "", None
        return Mark.OUTSIDE, reason, None
