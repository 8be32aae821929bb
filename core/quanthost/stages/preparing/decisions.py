"""A decision for each call node of the captured graph, before and after lowering."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs
from torch import fx

from quanthost.graph.operators import overload
from quanthost.graph.provenance import NodeInfo
from quanthost.graph.rewrite import origin
from quanthost.stages.preparing.planning import Plan, PlannedMatch
from quanthost.values import Cause, Decision, Kernel, QSpec, Recipe, Request, Verdict

if TYPE_CHECKING:
    from quanthost.toolchain.edge import EdgeResult, Piece

__all__ = ["decide", "place"]


def decide(
    nodes: Iterable[NodeInfo], graph_module: fx.GraphModule, plan: Plan, request: Request, recipe: Recipe
) -> tuple[Decision, ...]:
    """One decision a node, in graph order; ``graph_module`` is the graph that was annotated."""
    present: dict[str, list[fx.Node]] = {}
    for node in graph_module.graph.nodes:
        if node.op == "call_function":
            present.setdefault(origin(node) or node.name, []).append(node)
    quantized = {node: match for match in plan.matches for node in match.nodes}
    decisions: dict[str, Decision] = {}
    for info in nodes:
        base = Decision(
            node=info.name, operator=info.operator, module=info.module, source=info.source,
            verdict=Verdict.FLOAT, cause=Cause.NO_ROW, reason="",
        )  # fmt: skip
        pieces = _computing(present.get(info.name, []))
        in_float = [node for node in pieces if node not in quantized]
        if pieces and not in_float:
            decisions[info.name] = _quantized(base, quantized[pieces[0]])
        elif info.name not in present:
            decisions[info.name] = attrs.evolve(
                base, verdict=Verdict.FOLDED, cause=Cause.CONSTANT,
                reason="folded into the weights of its neighbour, or without effect on the outputs",
            )  # fmt: skip
        else:
            reads = _reads_result(base, in_float, decisions)
            decisions[info.name] = reads or _float(base, in_float, plan, request, recipe)
    return tuple(decisions.values())


def _computing(pieces: list[fx.Node]) -> list[fx.Node]:
    """The nodes that replaced a node in rewrites, without views around them, unless all are views."""
    return [node for node in pieces if not _is_view(node)] or pieces


def _is_view(node: fx.Node) -> bool:
    op = overload(node)
    return op is not None and any(result.alias_info is not None for result in op._schema.returns)


def _quantized(base: Decision, planned: PlannedMatch) -> Decision:
    match = planned.match
    with_others = f", fused with {len(match.nodes) - 1} more" if len(match.nodes) > 1 else ""
    return attrs.evolve(
        base, verdict=Verdict.QUANTIZED, cause=Cause.ROW, backend=match.backend, recipe=planned.recipe,
        row=match.row, reason=f"row {match.row}{with_others}",
    )  # fmt: skip


def _reads_result(
    base: Decision, pieces: Sequence[fx.Node], decisions: dict[str, Decision]
) -> Decision | None:
    """The decision of the operator one of whose results a node picks, ``None`` for any other node."""
    for node in pieces:
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
            source = decisions.get(origin(node.args[0]) or node.args[0].name)
            if source is not None:
                return attrs.evolve(
                    source, node=base.node, operator=base.operator, cause=Cause.FUSED,
                    reason=f"reads a result of {source.node}",
                )  # fmt: skip
    return None


def _float(
    base: Decision, pieces: Sequence[fx.Node], plan: Plan, request: Request, recipe: Recipe
) -> Decision:
    refusal = next((plan.refusals[node] for node in pieces if node in plan.refusals), None)
    if refusal is not None:
        return attrs.evolve(base, cause=refusal.cause, reason=refusal.reason)
    if recipe.kernel is Kernel.FLOAT:
        return attrs.evolve(base, cause=Cause.RECIPE, reason=f"the recipe {recipe.name} quantizes nothing")
    have = "has" if len(request.backends) == 1 else "have"
    backends, operation = " and ".join(request.backends), base.operator.removeprefix("aten.").split(".")[0]
    return attrs.evolve(base, reason=f"{backends} {have} no {_kernel_text(recipe)} kernel for {operation}")


def _kernel_text(recipe: Recipe) -> str:
    """``"int8"``, ``"dynamic int8"`` or ``"weight-only"``: the kernels that a recipe needs, in words."""
    if recipe.kernel is Kernel.WEIGHT_ONLY:
        return "weight-only"
    dtype = recipe.activation.dtype.value if isinstance(recipe.activation, QSpec) else "int8"
    return f"dynamic {dtype}" if recipe.kernel is Kernel.DYNAMIC else dtype


def place(decisions: Iterable[Decision], edge: EdgeResult, delegating: Sequence[str]) -> tuple[Decision, ...]:
    """The decisions with their place in the program: the partition, or why there is none.

    ``delegating`` are the backends of the request that have a delegate.
    """
    partitions: dict[str, tuple[int, Piece]] = {}
    for number, piece in enumerate(edge.pieces):
        for name in piece.origins:
            partitions.setdefault(name, (number, piece))
    outside: dict[str, list[str]] = {}
    for source, operator_name in edge.outside:
        if source is not None:
            outside.setdefault(source, []).append(operator_name)
    return tuple(_place(decision, partitions, outside, delegating) for decision in decisions)


def _place(
    decision: Decision,
    partitions: dict[str, tuple[int, Piece]],
    outside: dict[str, list[str]],
    delegating: Sequence[str],
) -> Decision:
    if decision.node in partitions:
        number, piece = partitions[decision.node]
        rest = outside.get(decision.node)
        placement = "taken by the delegate" if rest is None else f"in part; outside: {', '.join(rest)}"
        partition = f"{piece.delegate}/{number}"
        return attrs.evolve(
            decision, delegated=True, partition=partition, placement=placement, in_program=True
        )
    if decision.node in outside:
        names = ", ".join(dict.fromkeys(outside[decision.node]))
        refusal = f": no row of {' or '.join(delegating)} takes it there" if delegating else ""
        placement = f"the runtime's own kernels run {names}{refusal}"
        return attrs.evolve(decision, delegated=False, placement=placement, in_program=True)
    placement = "nothing of it is left in the program"
    return attrs.evolve(decision, delegated=False, placement=placement, in_program=False)
