"""Repeats a table backend's searches for one operator, at annotation and at partitioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from torch import fx
from torch.export import ExportedProgram

from quanthost.debugging.row_attempts import Answer, SearchContext, mentions, try_rows
from quanthost.graph.evaluation import RowEvaluator
from quanthost.graph.operators import operator_name
from quanthost.graph.table import Claim, Row, SupportTable
from quanthost.graph.view import GraphView
from quanthost.hooks.backend import TableBackend, float_operands
from quanthost.hooks.claims import FITS, find_claims
from quanthost.values import Kernel, Recipe
from quanthost.values.explanation import Outcome, RowAttempt, Search

__all__ = ["search_captured", "search_edge"]


def search_captured(
    backend: TableBackend,
    graph_module: fx.GraphModule,
    recipe: Recipe,
    target: fx.Node,
    *,
    answers: Sequence[Answer],
    closed: Callable[[fx.Node], str | None],
) -> Search:
    """The rows of a table for an operator of the annotated graph.

    ``answers`` are the matches that the backend's ``quanthost_annotate`` returned. ``closed`` returns the
    reason why an operator was not open to the backend.
    """
    search = Search(
        backend=backend.info.name, node=target.name, operator=operator_name(target), recipe=recipe.name
    )
    if recipe.kernel is Kernel.FLOAT:
        return attrs.evolve(search, note=f"the recipe {recipe.name} quantizes nothing: no row was tried")
    evaluator = RowEvaluator(
        view=GraphView(graph_module), kernel=recipe.kernel, recipe=recipe, accept=float_operands
    )
    context = SearchContext(evaluator=evaluator, answers=answers, closed=closed)
    attempts, others = try_rows(backend.table, target, context)
    return attrs.evolve(search, attempts=attempts, others=others)


def search_edge(backend: TableBackend, exported: ExportedProgram, targets: Sequence[fx.Node]) -> list[Search]:
    """The rows of a table for operators of the edge graph, as its partitioner sees them."""
    claims = find_claims(backend.table, exported)
    view = GraphView(exported.graph_module, exported)
    return [_search_edge(backend, view, claims, target) for target in targets]


def _search_edge(backend: TableBackend, view: GraphView, claims: Sequence[Claim], target: fx.Node) -> Search:
    """Attempts kernel by kernel, in the partitioner's order, up to the row that took the operator."""
    rows = [row for row in backend.table if mentions(row.pattern, target)]
    attempts: list[RowAttempt] = []
    for kernel in FITS:
        attempts.extend(_edge_attempts(rows, kernel, view, claims, target))
        if any(attempt.outcome is Outcome.TAKEN for attempt in attempts):
            break
    else:
        attempts.extend(_runtime_attempt(row, target) for row in rows if not row.delegated)
    return Search(
        backend=backend.info.name, node=target.name, operator=operator_name(target), attempts=attempts,
        others=len(backend.table.rows) - len(rows),
    )  # fmt: skip


def _edge_attempts(
    rows: Sequence[Row], kernel: Kernel, view: GraphView, claims: Sequence[Claim], target: fx.Node
) -> tuple[RowAttempt, ...]:
    order = list(FITS)
    earlier = {
        node: claim
        for claim in claims
        if order.index(claim.site.kernel) < order.index(kernel)
        for node in claim.nodes
    }

    def closed(node: fx.Node) -> str | None:
        claim = earlier.get(node)
        if claim is None:
            return None
        return f"row {claim.site.row.name} has it as a {claim.site.kernel.value} kernel"

    context = SearchContext(
        evaluator=RowEvaluator(view=view, kernel=kernel, accept=FITS[kernel]), closed=closed,
        answers=[
            Answer(row=claim.site.row.name, nodes=claim.site.nodes)
            for claim in claims
            if claim.site.kernel is kernel
        ],
    )  # fmt: skip
    fitting = SupportTable(row for row in rows if row.delegated and kernel in row.kernels)
    attempts, _ = try_rows(fitting, target, context)
    return attempts


def _runtime_attempt(row: Row, target: fx.Node) -> RowAttempt:
    kernel = next(kernel for kernel in FITS if kernel in row.kernels)
    return RowAttempt(
        row=row.name, pattern=str(row.pattern), kernel=kernel, outcome=Outcome.KERNEL, nodes=[target.name],
        found="the runtime's own kernels run the row", expected="a kernel of the delegate",
    )  # fmt: skip
