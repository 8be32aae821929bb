"""``why``: explains the decision on operators by the rows that were tried, before and after lowering."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence

import attrs
from torch import fx
from torch.export import ExportedProgram

from quanthost.debugging.row_attempts import Answer
from quanthost.debugging.row_search import search_captured, search_edge
from quanthost.errors import QuanthostError, RequestError
from quanthost.graph.operators import name_matches, operator_name
from quanthost.graph.provenance import NodeInfo
from quanthost.graph.rewrite import origin
from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.hooks.backend import TableBackend
from quanthost.hooks.manager import Plugins
from quanthost.stages.calibrating.calibrate import calibrate
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.converting.convert import convert
from quanthost.stages.lowering.lower import lower
from quanthost.stages.preparing.overrides import in_module
from quanthost.stages.preparing.planning import Query
from quanthost.stages.preparing.prepare import PlannedGraph, plan, prepare
from quanthost.toolchain.partition import TAG, ClaimPartitioner, Partitioner
from quanthost.values import Decision, Override, Request
from quanthost.values.explanation import Explanation, Search, Why

__all__ = ["explain", "select_nodes"]


def explain(
    captured: CapturedModel, plugins: Plugins, request: Request, selector: str, *, lowered: bool = True
) -> Explanation:
    """Explain the decisions on operators of a model.

    Args:
        captured: The model in evaluation form; lowering uses ranges from its example inputs.
        plugins: The backends of the request.
        request: The request as for ``prepare``.
        selector: A node of the captured graph, an operator (``"conv2d"``), or a module's dotted path, as a
            glob; the module's contents are selected too.
        lowered: Also lower, to include the partitioners' searches of the edge graph.

    Raises:
        RequestError: the selector matches nothing, or the request cannot be prepared.
        QuanthostError: ``prepare`` would raise it.
    """
    selected = select_nodes(selector, captured.nodes())
    planned = plan(captured, plugins, request)
    by_node = {decision.node: decision for decision in planned.decisions}
    edge, note = _EdgeSearches(plugins=plugins, names=frozenset(info.name for info in selected)), ""
    if lowered:
        note, placed = _lower(captured, plugins, request, edge)
        by_node.update({decision.node: decision for decision in placed})
    return Explanation(
        model=captured.model_class, backends=request.backends, recipe=request.recipe, selector=selector,
        lowered=lowered and not note, note=note,
        operators=[
            Why(
                decision=by_node[info.name],
                captured=tuple(_captured_searches(info.name, planned, plugins)),
                edge=tuple(edge.searches.get(info.name, ())),
            )
            for info in selected
        ],
    )  # fmt: skip


def select_nodes(selector: str, nodes: Sequence[NodeInfo]) -> tuple[NodeInfo, ...]:
    """The node of that name, else the nodes of that operator, else those of the module and inside it.

    Raises:
        RequestError: nothing matches; the message has the nearest names.
    """
    kinds: tuple[Callable[[NodeInfo], bool], ...] = (
        lambda node: node.name == selector,
        lambda node: name_matches(selector, node.operator),
        lambda node: in_module(selector, node.module),
    )
    for fits in kinds:
        selected = tuple(node for node in nodes if fits(node))
        if selected:
            return selected
    names = [name for node in nodes for name in (node.name, node.operator, node.module) if name]
    near = difflib.get_close_matches(selector, dict.fromkeys(names), n=3)
    shown = [node.name for node in nodes][:12]
    more = f" and {len(nodes) - len(shown)} more" if len(nodes) > len(shown) else ""
    raise RequestError(
        f"{selector!r}, which is no node, operator or module of the model", value=selector, stage="why",
        needed=f"one of them; nodes: {', '.join(shown)}{more}",
        remedy=f"ask for {' or '.join(map(repr, near))}" if near else "list the nodes with 'trace'",
    )  # fmt: skip


def _captured_searches(name: str, planned: PlannedGraph, plugins: Plugins) -> Iterator[Search]:
    """The rows that each backend tried, for each operator whose origin is the captured node."""
    recipe = _recipe(planned.plan.rules.get(name), planned)
    targets = [
        node
        for node in planned.rewritten.graph.nodes
        if node.op == "call_function" and (origin(node) or node.name) == name
    ]
    for target in targets:
        for number, query in enumerate(planned.plan.queries):
            if query.recipe == recipe:
                yield _captured_search(target, number, planned, plugins)


def _captured_search(target: fx.Node, number: int, planned: PlannedGraph, plugins: Plugins) -> Search:
    query = planned.plan.queries[number]
    backend = plugins.plugin(query.backend)
    recipe = plugins.info(query.backend).recipe(query.recipe)
    assert recipe is not None
    if not isinstance(backend, TableBackend):
        return Search(
            backend=query.backend, node=target.name, operator=operator_name(target), recipe=query.recipe,
            note="it has no support table: its hooks decide",
        )  # fmt: skip
    return search_captured(
        backend, planned.rewritten, recipe, target, answers=_answers(query, planned),
        closed=lambda node: _reason_closed(node, number, planned),
    )  # fmt: skip


def _answers(query: Query, planned: PlannedGraph) -> list[Answer]:
    by_name = {node.name: node for node in planned.rewritten.graph.nodes}
    matches = [each.match for each in planned.plan.matches]
    quantized = {(match.backend, match.row, match.nodes) for match in matches}
    answers = []
    for match in query.matches:
        nodes = tuple(by_name[name] for name in match.nodes)
        is_quantized = (match.backend, match.row, match.nodes) in quantized
        refusal = planned.plan.refusals.get(nodes[-1])
        reason = "another answer took its place" if refusal is None else refusal.reason
        answers.append(Answer(row=match.row, nodes=nodes, dropped=None if is_quantized else reason))
    return answers


def _reason_closed(node: fx.Node, number: int, planned: PlannedGraph) -> str | None:
    """Why an operator was not open to a query, ``None`` if it was."""
    query, earlier = planned.plan.queries[number], planned.plan.queries[:number]
    if node.name in query.open_nodes:
        return None
    rule = planned.plan.rules.get(origin(node) or node.name)
    if _recipe(rule, planned) != query.recipe:
        return f"its recipe is {_recipe(rule, planned)}" + ("" if rule is None else f", by {rule}")
    for other in earlier:
        for match in other.matches:
            if node.name in match.nodes:
                return f"row {match.row} of {other.backend} has it"
    return planned.plan.refusals[node].reason


def _recipe(rule: Override | None, planned: PlannedGraph) -> str:
    """The recipe of an override, or else of the request."""
    return planned.plan.queries[0].recipe if rule is None or rule.recipe is None else rule.recipe


@attrs.define(kw_only=True)
class _EdgeSearches:
    """The searches of the edge graph during lowering, by captured node."""

    plugins: Plugins
    names: frozenset[str]
    searches: dict[str, list[Search]] = attrs.field(factory=dict)

    def see(self, partitioner: Partitioner | None, exported: ExportedProgram) -> None:
        """Search the graph that a partitioner has tagged."""
        if partitioner is None:
            return
        targets = [
            node
            for node in exported.graph.nodes
            if node.op == "call_function"
            and origin(node) in self.names
            and not (is_quantize(node) or is_dequantize(node))
        ]
        for target, search in zip(targets, self._search(partitioner, exported, targets)):
            search = attrs.evolve(search, partition=target.meta.get(TAG))
            self.searches.setdefault(str(origin(target)), []).append(search)

    def _search(
        self, partitioner: Partitioner, exported: ExportedProgram, targets: Sequence[fx.Node]
    ) -> list[Search]:
        name = getattr(partitioner, "name", type(partitioner).__name__)
        if isinstance(partitioner, ClaimPartitioner) and name in self.plugins.backends:
            backend = self.plugins.plugin(name)
            if isinstance(backend, TableBackend):
                return search_edge(backend, exported, targets)
        note = f"{type(partitioner).__name__} decides by code of its own"
        return [
            Search(backend=name, node=node.name, operator=operator_name(node), note=note) for node in targets
        ]


def _lower(
    captured: CapturedModel, plugins: Plugins, request: Request, edge: _EdgeSearches
) -> tuple[str, tuple[Decision, ...]]:
    """Lower with ranges from the example inputs; return a note if that fails, and the final decisions."""
    try:
        calibrated = calibrate(prepare(captured, plugins, request), [captured.example_batch()])
        program = lower(convert(calibrated), watch=edge.see)
    except QuanthostError as error:
        return f"not lowered: {str(error).splitlines()[0]}", ()
    return "", program.decisions
