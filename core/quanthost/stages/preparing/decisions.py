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
from quanthost.stages.preparing.planning import Chosen, Planned
from quanthost.values import Cause, Decision, Kernel, Recipe, Request, Verdict

if TYPE_CHECKING:
    from quanthost.toolchain.edge import EdgeResult, Piece

__all__ = ["decide", "place"]


def decide(
    nodes: Iterable[NodeInfo],
    graph_module: fx.GraphModule,
    planned: Planned,
    request: Request,
    recipe: Recipe,
) -> tuple[Decision, ...]:
    """One decision a node, in graph order; ``graph_module`` is the graph that was annotated."""
    present: dict[str, list[fx.Node]] = {}
    for node in graph_module.graph.nodes:
        if node.op == "call_function":
            present.setdefault(origin(node) or node.name, []).append(node)
    quantized = {node: made for made in planned.chosen for node in made.nodes}
    decisions: dict[str, Decision] = {}
    for info in nodes:
        base = Decision(
            node=info.name, operator=info.operator, module=info.module, source=info.source,
            verdict=Verdict.FLOAT, cause=Cause.NO_ROW, reason="",
        )  # fmt: skip
        here = _computing(present.get(info.name, []))
        made = [quantized[node] for node in here if node in quantized]
        if made and len(made) == len(here):
            decisions[info.name] = _quantized(base, made[0])
        elif info.name not in present:
            decisions[info.name] = attrs.evolve(
                base, verdict=Verdict.FOLDED, cause=Cause.CONSTANT,
                reason="folded into the weights of its neighbour, or without effect on the outputs",
            )  # fmt: skip
        else:
            left = [node for node in here if node not in quantized]
            decisions[info.name] = _float(base, left, decisions, planned, request, recipe)
    return tuple(decisions.values())


def _computing(here: list[fx.Node]) -> list[fx.Node]:
    """What a rewrite made of a node, without the views around it; all of them where it is views alone."""
    computing = [node for node in here if not _is_view(node)]
    return computing if computing else here


def _is_view(node: fx.Node) -> bool:
    op = overload(node)
    return op is not None and any(result.alias_info is not None for result in op._schema.returns)


def _quantized(base: Decision, made: Chosen) -> Decision:
    match = made.match
    with_others = f", fused with {len(match.nodes) - 1} more" if len(match.nodes) > 1 else ""
    return attrs.evolve(
        base, verdict=Verdict.QUANTIZED, cause=Cause.ROW, backend=match.backend, recipe=made.recipe,
        row=match.row, reason=f"row {match.row}{with_others}",
    )  # fmt: skip


def _float(
    base: Decision,
    here: Sequence[fx.Node],
    decisions: dict[str, Decision],
    planned: Planned,
    request: Request,
    recipe: Recipe,
) -> Decision:
    for node in here:
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
            source = decisions.get(origin(node.args[0]) or node.args[0].name)
            if source is not None:
                reason = f"reads a result of {source.node}"
                return attrs.evolve(
                    source, node=base.node, operator=base.operator, cause=Cause.FUSED, reason=reason
                )
        if node in planned.refused:
            cause, reason = planned.refused[node]
            return attrs.evolve(base, cause=cause, reason=reason)
    if recipe.kernel is Kernel.FLOAT:
        return attrs.evolve(base, cause=Cause.RECIPE, reason=f"the recipe {recipe.name} quantizes nothing")
    backends = " or ".join(request.backends)
    return attrs.evolve(
        base, reason=f"no row of {backends} has {base.operator} as a {recipe.kernel.value} kernel"
    )


def place(decisions: Iterable[Decision], edge: EdgeResult, delegating: Sequence[str]) -> tuple[Decision, ...]:
    """The decisions with what lowering made of them: which partition, or why none.

    ``delegating`` are the backends of the request that have a delegate.
    """
    home: dict[str, tuple[int, Piece]] = {}
    for number, piece in enumerate(edge.pieces):
        for name in piece.origins:
            home.setdefault(name, (number, piece))
    outside: dict[str, list[str]] = {}
    for source, operator_name in edge.outside:
        if source is not None:
            outside.setdefault(source, []).append(operator_name)
    return tuple(_place(decision, home, outside, delegating) for decision in decisions)


def _place(
    decision: Decision,
    home: dict[str, tuple[int, Piece]],
    outside: dict[str, list[str]],
    delegating: Sequence[str],
) -> Decision:
    if decision.node in home:
        number, piece = home[decision.node]
        rest = outside.get(decision.node)
        placement = "taken by the delegate" if rest is None else f"in part; outside: {', '.join(rest)}"
        partition = f"{piece.delegate}/{number}"
        return attrs.evolve(decision, delegated=True, partition=partition, placement=placement)
    if decision.node in outside:
        names = ", ".join(dict.fromkeys(outside[decision.node]))
        refusal = f": no row of {' or '.join(delegating)} takes it there" if delegating else ""
        placement = f"the runtime's own kernels run {names}{refusal}"
        return attrs.evolve(decision, delegated=False, placement=placement)
    return attrs.evolve(decision, delegated=False, placement="nothing of it is left in the program")
