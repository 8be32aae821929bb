"""Plans the quantization of a graph: which matches are quantized, and why the other nodes are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
from torch import fx

from quanthost.graph.provenance import NodeInfo
from quanthost.graph.rewrite import origin
from quanthost.graph.sharing import Point, solve_sharing
from quanthost.graph.view import GraphView
from quanthost.hooks.manager import Plugins
from quanthost.stages.preparing.cost import Candidate, prune
from quanthost.stages.preparing.latency import Priced, fastest
from quanthost.stages.preparing.overrides import apply_qspecs, resolve_overrides
from quanthost.stages.preparing.planned_match import PlannedMatch
from quanthost.stages.preparing.sentinels import nodes_with_sentinels
from quanthost.toolchain.pt2e import QuantPlan
from quanthost.values import (
    AnyQSpec,
    Cause,
    DerivedQSpec,
    FixedQSpec,
    Gain,
    Kernel,
    Latency,
    Match,
    Override,
    Placement,
    Prices,
    Refusal,
    Request,
)

__all__ = ["Plan", "PlannedMatch", "Query", "plan_quantization"]


@attrs.frozen(kw_only=True)
class Query:
    """One query to a backend: the recipe, the nodes that were open to it, and the matches it returned."""

    backend: str
    recipe: str
    open_nodes: frozenset[str]
    matches: tuple[Match, ...]


@attrs.frozen(kw_only=True)
class Plan:
    """The quantized matches of a graph, and the reasons why other nodes are not quantized.

    ``quant_plan`` is what torchao needs to know. ``queries`` are in the order in which the backends were
    queried, ``rules`` are the overrides by captured node.
    """

    quant_plan: QuantPlan
    queries: tuple[Query, ...]
    matches: tuple[PlannedMatch, ...]
    refusals: Mapping[fx.Node, Refusal]
    rules: Mapping[str, Override]
    latency: Latency | None = None


def plan_quantization(
    graph_module: fx.GraphModule, nodes: Iterable[NodeInfo], request: Request, plugins: Plugins
) -> Plan:
    """Decide what to quantize in a graph that is ready for annotation. Pure: the graph does not change.

    ``nodes`` describe the captured graph, whose names overrides and decisions use.

    Raises:
        OverrideError: see ``resolve_overrides``.
        HookError: a plugin answered with the wrong type.
    """
    rules = resolve_overrides(nodes, request, plugins)
    planner = _Planner(graph_module, rules)
    planner.query_backends(request, plugins)
    view, latency = GraphView(graph_module), None
    if request.placement is Placement.COST:
        planner.drop(_costly(planner.matches, view))
    if request.costs is not None:
        slow, latency = _slow(planner.matches, view, Prices(request.costs))
        planner.drop(slow)
    quant_plan, conflicting = _solve(graph_module, planner.matches)
    planner.drop(conflicting)
    return Plan(
        quant_plan=quant_plan, queries=tuple(planner.queries), matches=tuple(planner.matches),
        refusals=planner.refusals, rules=rules, latency=latency,
    )  # fmt: skip


class _Planner:
    """Collects the matches of a graph, and a refusal for each node that stays float for a known reason.

    Nodes that hold mask sentinels, or that an override keeps in float, are refused from the start.
    """

    def __init__(self, graph_module: fx.GraphModule, rules: Mapping[str, Override]) -> None:
        self.graph_module, self.rules = graph_module, rules
        self.matches: list[PlannedMatch] = []
        self.queries: list[Query] = []
        self.refusals: dict[fx.Node, Refusal] = {}
        self._by_name = {node.name: node for node in graph_module.graph.nodes}
        self._calls = [node for node in graph_module.graph.nodes if node.op == "call_function"]
        for node, source in nodes_with_sentinels(graph_module).items():
            reason = f"it handles mask values beyond ±1e30, which come from {source}"
            self.refusals[node] = Refusal(cause=Cause.CONSTRAINT, reason=reason)
        for node in self._calls:
            rule = self._rule(node)
            if rule is not None and rule.keep_float:
                self.refusals[node] = Refusal(cause=Cause.OVERRIDE, reason=f"kept in float by {rule}")

    def query_backends(self, request: Request, plugins: Plugins) -> None:
        """Query each backend for each recipe; a matched node is closed to the queries that follow."""
        closed = set(self.refusals)
        for backend in request.backends:
            for recipe, nodes in self._by_recipe(request.recipe).items():
                open_nodes = frozenset(node.name for node in nodes if node not in closed)
                own_request = attrs.evolve(request, recipe=recipe)
                matches = self._query(backend, own_request, plugins, open_nodes)
                closed.update(node for match in matches for node in match.nodes)
                self.matches.extend(matches)
        for match in self.matches:
            for node in match.nodes:
                self.refusals.pop(node, None)

    def drop(self, dropped: Mapping[PlannedMatch, Refusal]) -> None:
        """Leave matches in float, each for its reason."""
        for match, refusal in dropped.items():
            self.refusals.update(dict.fromkeys(match.nodes, refusal))
        self.matches = [match for match in self.matches if match not in dropped]

    def _rule(self, node: fx.Node) -> Override | None:
        return self.rules.get(origin(node) or node.name)

    def _by_recipe(self, default: str) -> dict[str, list[fx.Node]]:
        recipes: dict[str, list[fx.Node]] = {default: []}
        for node in self._calls:
            rule = self._rule(node)
            recipe = rule.recipe if rule is not None and rule.recipe is not None else default
            recipes.setdefault(recipe, []).append(node)
        return recipes

    def _query(
        self, backend: str, request: Request, plugins: Plugins, open_nodes: frozenset[str]
    ) -> list[PlannedMatch]:
        """The matches of one query for which qspecs were chosen; the others are refused."""
        answer = plugins.annotate(backend, self.graph_module, request, open_nodes)
        matches = tuple(item for item in answer if isinstance(item, Match))
        self.queries.append(
            Query(backend=backend, recipe=request.recipe, open_nodes=open_nodes, matches=matches)
        )
        planned: list[PlannedMatch] = []
        for item in answer:
            if not isinstance(item, Match):
                reason = f"row {item.row} of {backend}: {item.reason}"
                miss = Refusal(cause=Cause.CONSTRAINT, reason=reason)
                self.refusals.setdefault(self._by_name[item.node], miss)
                continue
            choice = self._choose(item, request, plugins)
            if isinstance(choice, Refusal):
                self.refusals.update(dict.fromkeys((self._by_name[name] for name in item.nodes), choice))
            else:
                planned.append(choice)
        return planned

    def _choose(self, match: Match, request: Request, plugins: Plugins) -> PlannedMatch | Refusal:
        """The match with its qspecs, or why the backend quantizes nothing there."""
        choice = plugins.choose_qspecs(match.backend, match, request)
        if isinstance(choice, Refusal):
            return choice
        nodes = tuple(self._by_name[name] for name in match.nodes)
        rule = next((rule for node in nodes if (rule := self._rule(node)) is not None), None)
        if rule is not None and rule.qspecs:
            roles = {name.split(".")[0]: match.role(name) for name in choice.as_dict()}
            choice = apply_qspecs(choice, rule, roles)
        return PlannedMatch(
            match=match, recipe=request.recipe, nodes=nodes, qspecs=choice.as_dict(),
            captures={name: self._by_name[node] for name, node in match.captures},
        )  # fmt: skip


def _costly(matches: Iterable[PlannedMatch], view: GraphView) -> dict[PlannedMatch, Refusal]:
    """The matches that placement by cost leaves in float."""
    candidates = {_candidate(match, view): match for match in matches}
    reasons = prune(candidates)
    return {candidates[each]: Refusal(cause=Cause.COST, reason=reason) for each, reason in reasons.items()}


def _candidate(match: PlannedMatch, view: GraphView) -> Candidate:
    return Candidate(
        nodes=match.nodes,
        inputs=match.varying_inputs(view),
        gain=match.match.gain if match.match.kernel is Kernel.STATIC else Gain.DRIVES,
        keeps_parameters=bool(match.match.shares),
        has_fixed_range=isinstance(match.qspecs.get("output"), FixedQSpec),
        dtype=match.dtype,
    )


def _slow(
    matches: Iterable[PlannedMatch], view: GraphView, prices: Prices
) -> tuple[dict[PlannedMatch, Refusal], Latency]:
    """The matches that are faster in float, and the expected times."""
    priced = {_priced(match, view, prices): match for match in matches}
    reasons, latency = fastest(tuple(priced), prices)
    slow = {priced[each]: Refusal(cause=Cause.COST, reason=reason) for each, reason in reasons.items()}
    return slow, latency


def _priced(match: PlannedMatch, view: GraphView, prices: Prices) -> Priced:
    sizes, row, kernel = match.sizes, match.match.row, match.match.kernel
    return Priced(
        nodes=match.nodes,
        inputs=match.varying_inputs(view),
        integer=None if sizes is None else prices.seconds(row, kernel, sizes),
        float=None if sizes is None else prices.seconds(row, Kernel.FLOAT, sizes),
        converts=kernel is Kernel.STATIC,
    )


def _solve(
    graph_module: fx.GraphModule, matches: Sequence[PlannedMatch]
) -> tuple[QuantPlan, dict[PlannedMatch, Refusal]]:
    """Solve the sharing constraints; drop matches whose tensors conflict."""
    order = {node: position for position, node in enumerate(graph_module.graph.nodes)}
    conflict = Refusal(
        cause=Cause.CONSTRAINT,
        reason="its tensors must share quantization parameters, but their qspecs contradict each other",
    )
    conflicting: dict[PlannedMatch, Refusal] = {}
    while True:
        specs, derived = _points(matches)
        required = [points for match in matches if (points := match.shared_points())]
        sharing = solve_sharing(specs, required, order)
        if not sharing.conflicts:
            break
        clashing = {point for group in sharing.conflicts for point in group}
        losers = [match for match in matches if clashing & set(match.shared_points())]
        conflicting.update(dict.fromkeys(losers, conflict))
        matches = [match for match in matches if match not in conflicting]
    plan = QuantPlan(
        groups=tuple(zip(sharing.groups, sharing.specs)), derived=tuple(derived),
        operators=tuple(node for match in matches for node in match.nodes),
    )  # fmt: skip
    return plan, conflicting


def _points(
    matches: Iterable[PlannedMatch],
) -> tuple[dict[Point, AnyQSpec], list[tuple[Point, DerivedQSpec, tuple[Point, ...]]]]:
    """The qspec of each point, and separately the derived ones with the points they derive from."""
    specs: dict[Point, AnyQSpec] = {}
    derived: list[tuple[Point, DerivedQSpec, tuple[Point, ...]]] = []
    for match in matches:
        for capture, spec in match.qspecs.items():
            for point in match.points(capture):
                if isinstance(spec, DerivedQSpec):
                    sources = tuple(p for name in spec.sources for p in match.points(name)[:1])
                    derived.append((point, spec, sources))
                else:
                    specs[point] = spec
    return specs, derived
