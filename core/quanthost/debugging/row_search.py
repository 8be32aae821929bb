"""The searches of a table backend for one operator: when it annotates, and when its delegate partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from torch import fx
from torch.export import ExportedProgram

from quanthost.debugging.row_trials import Answer, Tried, mentions, try_rows
from quanthost.graph.operators import operator_name
from quanthost.graph.table import Claim, Row, SupportTable
from quanthost.graph.view import GraphView
from quanthost.hooks.backend import TableBackend, integer_operand
from quanthost.hooks.claims import FITS, find_claims
from quanthost.values import Kernel, Recipe
from quanthost.values.explanation import Outcome, RowTrial, Search

__all__ = ["search_captured", "search_edge"]

_KERNEL_NEEDS = {
    Kernel.STATIC: "a static kernel's quantize and dequantize around it",
    Kernel.DYNAMIC: "a dynamic kernel's quantize and dequantize before it",
    Kernel.WEIGHT_ONLY: "a dequantize before its weight alone",
    Kernel.FLOAT: "float operands",
}


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

    ``answers`` are the matches that the backend's ``quanthost_annotate`` gave, ``closed`` the reason for
    which an operator was not open to it.
    """
    search = Search(
        backend=backend.info.name, node=target.name, operator=operator_name(target), recipe=recipe.name
    )
    if recipe.kernel is Kernel.FLOAT:
        return attrs.evolve(search, note=f"the recipe {recipe.name} quantizes nothing: no row was tried")
    tried = Tried(
        view=GraphView(graph_module), kernel=recipe.kernel, recipe=recipe, answers=answers, closed=closed,
        accept=integer_operand, accepts="float operands, which can be quantized",
    )  # fmt: skip
    trials, others = try_rows(backend.table, target, tried)
    return attrs.evolve(search, trials=trials, others=others)


def search_edge(backend: TableBackend, exported: ExportedProgram, targets: Sequence[fx.Node]) -> list[Search]:
    """The rows of a table for operators of the edge graph, as its partitioner sees them."""
    claims = find_claims(backend.table, exported)
    view = GraphView(exported.graph_module, exported)
    return [_search_edge(backend, view, claims, target) for target in targets]


def _search_edge(backend: TableBackend, view: GraphView, claims: Sequence[Claim], target: fx.Node) -> Search:
    """Trials kernel by kernel, in the partitioner's order, up to the one that took the operator."""
    rows = [row for row in backend.table if mentions(row.pattern, target)]
    trials: list[RowTrial] = []
    for kernel in FITS:
        trials.extend(_edge_trials(rows, kernel, view, claims, target))
        if any(trial.outcome is Outcome.TAKEN for trial in trials):
            break
    else:
        trials.extend(_undelegated(row, target) for row in rows if not row.delegated)
    return Search(
        backend=backend.info.name, node=target.name, operator=operator_name(target), trials=trials,
        others=len(backend.table.rows) - len(rows),
    )  # fmt: skip


def _edge_trials(
    rows: Sequence[Row], kernel: Kernel, view: GraphView, claims: Sequence[Claim], target: fx.Node
) -> tuple[RowTrial, ...]:
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

    tried = Tried(
        view=view, kernel=kernel, closed=closed, accept=FITS[kernel], accepts=_KERNEL_NEEDS[kernel],
        answers=[
            Answer(row=claim.site.row.name, nodes=claim.site.nodes)
            for claim in claims
            if claim.site.kernel is kernel
        ],
    )  # fmt: skip
    fitting = SupportTable(row for row in rows if row.delegated and kernel in row.kernels)
    trials, _ = try_rows(fitting, target, tried)
    return trials


def _undelegated(row: Row, target: fx.Node) -> RowTrial:
    kernel = next(kernel for kernel in FITS if kernel in row.kernels)
    return RowTrial(
        row=row.name, pattern=str(row.pattern), kernel=kernel, outcome=Outcome.KERNEL, nodes=[target.name],
        found="the runtime's own kernels run the row", expected="a kernel of the delegate",
    )  # fmt: skip
