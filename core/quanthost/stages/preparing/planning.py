"""From matches to a quantization plan and a decision for each node: the heart of ``prepare``."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from torch import fx

from quanthost.graph.provenance import NodeInfo
from quanthost.graph.rewrite import origin
from quanthost.graph.sharing import Point, solve_sharing
from quanthost.graph.view import GraphView
from quanthost.hooks.manager import Plugins
from quanthost.hooks.specs import RowMiss
from quanthost.stages.preparing.cost import Candidate, prune
from quanthost.stages.preparing.latency import Priced, fastest, sizes_of
from quanthost.stages.preparing.overrides import apply_qspecs, resolve_overrides
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
    Role,
    Sizes,
)

__all__ = ["Asked", "Chosen", "Planned", "plan_quantization", "site_sizes"]


@attrs.frozen(kw_only=True, eq=False)
class Chosen:
    """A match that is quantized: its nodes in the graph, qspecs and the recipe they come from."""

    match: Match
    recipe: str
    nodes: tuple[fx.Node, ...]
    captures: dict[str, fx.Node]
    qspecs: dict[str, AnyQSpec]


@attrs.frozen(kw_only=True)
class Asked:
    """One question to a backend: for which recipe, which nodes were open to it, and where its rows held."""

    backend: str
    recipe: str
    open_nodes: frozenset[str]
    matches: tuple[Match, ...]


@attrs.frozen(kw_only=True)
class Planned:
    """The plan, what is quantized, and why the other nodes of the rewritten graph are not.

    ``asked`` are the questions to the backends, in the order in which they were asked.
    """

    plan: QuantPlan
    asked: tuple[Asked, ...]
    chosen: tuple[Chosen, ...]
    refused: dict[fx.Node, tuple[Cause, str]]
    rules: dict[str, Override]
    latency: Latency | None = None


def plan_quantization(
    graph_module: fx.GraphModule, nodes: Iterable[NodeInfo], request: Request, plugins: Plugins
) -> Planned:
    """Decide what is quantized in a graph that is ready for annotation. Pure: the graph is not changed.

    ``nodes`` describe the captured graph, whose names overrides and decisions use.

    Raises:
        OverrideError: see ``resolve_overrides``.
        HookError: a plugin answered with the wrong type.
    """
    rules = resolve_overrides(nodes, request, plugins)
    refused: dict[fx.Node, tuple[Cause, str]] = {}
    for node, source in nodes_with_sentinels(graph_module).items():
        refused[node] = (Cause.CONSTRAINT, f"touches a mask sentinel (beyond ±1e30) that comes from {source}")
    for node in _calls(graph_module):
        rule = rules.get(origin(node) or node.name)
        if rule is not None and rule.keep_float:
            refused[node] = (Cause.OVERRIDE, f"kept in float by {rule}")
    chosen, asked = _choose(graph_module, request, plugins, rules, refused)
    if request.placement is Placement.COST:
        chosen = _drop_costly(chosen, GraphView(graph_module), refused)
    latency = None
    if request.costs is not None:
        chosen, latency = _drop_slow(chosen, GraphView(graph_module), Prices(request.costs), refused)
    plan, chosen = _solve(graph_module, chosen, refused)
    return Planned(
        plan=plan, asked=tuple(asked), chosen=tuple(chosen), refused=refused, rules=rules, latency=latency
    )


def _calls(graph_module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph_module.graph.nodes if node.op == "call_function"]


def _choose(
    graph_module: fx.GraphModule,
    request: Request,
    plugins: Plugins,
    rules: dict[str, Override],
    refused: dict[fx.Node, tuple[Cause, str]],
) -> tuple[list[Chosen], list[Asked]]:
    """Matches of all backends and recipes in play, with their qspecs; a taken node is closed to the next."""
    by_name = {node.name: node for node in graph_module.graph.nodes}
    closed = set(refused)
    chosen: list[Chosen] = []
    questions: list[Asked] = []
    for backend in request.backends:
        for recipe, nodes in _by_recipe(graph_module, request, rules).items():
            asked = attrs.evolve(request, recipe=recipe)
            open_nodes = frozenset(node.name for node in nodes if node not in closed)
            answer = plugins.annotate(backend, graph_module, asked, open_nodes)
            matches = tuple(item for item in answer if isinstance(item, Match))
            questions.append(Asked(backend=backend, recipe=recipe, open_nodes=open_nodes, matches=matches))
            for item in answer:
                if isinstance(item, RowMiss):
                    reason = f"row {item.row} of {backend}: {item.reason}"
                    refused.setdefault(by_name[item.node], (Cause.CONSTRAINT, reason))
                    continue
                made = _choose_one(item, asked, plugins, by_name, rules, refused)
                if made is not None:
                    closed.update(made.nodes)
                    chosen.append(made)
    for node in {node for made in chosen for node in made.nodes}:
        refused.pop(node, None)
    return chosen, questions


def _by_recipe(
    graph_module: fx.GraphModule, request: Request, rules: dict[str, Override]
) -> dict[str, list[fx.Node]]:
    recipes: dict[str, list[fx.Node]] = {request.recipe: []}
    for node in _calls(graph_module):
        rule = rules.get(origin(node) or node.name)
        recipe = rule.recipe if rule is not None and rule.recipe is not None else request.recipe
        recipes.setdefault(recipe, []).append(node)
    return recipes


def _choose_one(
    match: Match,
    request: Request,
    plugins: Plugins,
    by_name: dict[str, fx.Node],
    rules: dict[str, Override],
    refused: dict[fx.Node, tuple[Cause, str]],
) -> Chosen | None:
    nodes = tuple(by_name[name] for name in match.nodes)
    choice = plugins.choose_qspecs(match.backend, match, request)
    if isinstance(choice, Refusal):
        refused.update(dict.fromkeys(nodes, (choice.cause, choice.reason)))
        return None
    made = Chosen(
        match=match, recipe=request.recipe, nodes=nodes, qspecs=choice.as_dict(),
        captures={name: by_name[node] for name, node in match.captures},
    )  # fmt: skip
    rule = next((rules[n] for n in (origin(node) or node.name for node in nodes) if n in rules), None)
    if rule is not None and rule.qspecs:
        roles = {name.split(".")[0]: match.role(name) for name in made.qspecs}
        made = attrs.evolve(made, qspecs=apply_qspecs(choice, rule, roles).as_dict())
    return made


def _drop_costly(
    chosen: list[Chosen], view: GraphView, refused: dict[fx.Node, tuple[Cause, str]]
) -> list[Chosen]:
    candidates = {
        Candidate(
            nodes=made.nodes,
            inputs=_varying_inputs(made, view),
            gain=made.match.gain if made.match.kernel is Kernel.STATIC else Gain.DRIVES,
            keeps_parameters=bool(made.match.shares),
            has_fixed_range=isinstance(made.qspecs.get("output"), FixedQSpec),
        ): made
        for made in chosen
    }
    fallen = prune(candidates)
    for candidate, reason in fallen.items():
        refused.update(dict.fromkeys(candidate.nodes, (Cause.COST, reason)))
    return [made for candidate, made in candidates.items() if candidate not in fallen]


def _drop_slow(
    chosen: list[Chosen], view: GraphView, prices: Prices, refused: dict[fx.Node, tuple[Cause, str]]
) -> tuple[list[Chosen], Latency]:
    priced = {_priced(made, view, prices): made for made in chosen}
    slow, latency = fastest(tuple(priced), prices)
    for each, reason in slow.items():
        refused.update(dict.fromkeys(each.nodes, (Cause.COST, reason)))
    return [made for each, made in priced.items() if each not in slow], latency


def _priced(made: Chosen, view: GraphView, prices: Prices) -> Priced:
    sizes, row, kernel = site_sizes(made), made.match.row, made.match.kernel
    return Priced(
        nodes=made.nodes,
        inputs=_varying_inputs(made, view),
        integer=None if sizes is None else prices.seconds(row, kernel, sizes),
        float=None if sizes is None else prices.seconds(row, Kernel.FLOAT, sizes),
        converts=kernel is Kernel.STATIC,
    )


def site_sizes(made: Chosen) -> Sizes | None:
    """The sizes by which the time of a match is looked up; ``None`` where a shape is not known."""
    by_role: dict[Role, list[fx.Node]] = {}
    for name, node in made.captures.items():
        by_role.setdefault(made.match.role(name), []).append(node)
    weight = next(iter(by_role.get(Role.WEIGHT, ())), None)
    inputs = [*by_role.get(Role.ACTIVATION, ()), *by_role.get(Role.PASSTHROUGH, ())]
    return sizes_of(made.nodes, inputs, weight, made.nodes[-1])


def _varying_inputs(made: Chosen, view: GraphView) -> tuple[fx.Node, ...]:
    nodes = (
        node
        for name, node in made.captures.items()
        if name in made.qspecs and made.match.role(name) is Role.ACTIVATION
    )
    return tuple(dict.fromkeys(node for node in nodes if not view.is_constant(node)))


def _solve(
    graph_module: fx.GraphModule, chosen: list[Chosen], refused: dict[fx.Node, tuple[Cause, str]]
) -> tuple[QuantPlan, list[Chosen]]:
    """Solve the sharing constraints; drop matches whose tensors cannot agree, and solve again."""
    order = {node: position for position, node in enumerate(graph_module.graph.nodes)}
    while True:
        specs: dict[Point, AnyQSpec] = {}
        derived: list[tuple[Point, DerivedQSpec, tuple[Point, ...]]] = []
        for made in chosen:
            _add_points(made, specs, derived)
        required = [points for made in chosen if (points := _shared_points(made))]
        sharing = solve_sharing(specs, required, order)
        if not sharing.conflicts:
            break
        clashing = {point for group in sharing.conflicts for point in group}
        losers = [made for made in chosen if clashing & set(_shared_points(made))]
        for made in losers:
            reason = "its tensors must share parameters, and their qspecs cannot agree"
            refused.update(dict.fromkeys(made.nodes, (Cause.CONSTRAINT, reason)))
        chosen = [made for made in chosen if made not in losers]
    plan = QuantPlan(
        groups=tuple(zip(sharing.groups, sharing.specs)), derived=tuple(derived),
        operators=tuple(node for made in chosen for node in made.nodes),
    )  # fmt: skip
    return plan, chosen


def _points(made: Chosen, capture: str) -> list[Point]:
    """Where a capture enters the operators of the match, or where the result leaves."""
    if capture == "output":
        return [Point(made.nodes[-1])]
    producers = [n for name, n in made.captures.items() if capture in (name, name.split(".")[0])]
    return [
        Point(producer, node)
        for producer in producers
        for node in made.nodes
        if producer in node.all_input_nodes
    ]


def _add_points(
    made: Chosen,
    specs: dict[Point, AnyQSpec],
    derived: list[tuple[Point, DerivedQSpec, tuple[Point, ...]]],
) -> None:
    for capture, spec in made.qspecs.items():
        for point in _points(made, capture):
            if isinstance(spec, DerivedQSpec):
                sources = tuple(p for name in spec.sources for p in _points(made, name)[:1])
                derived.append((point, spec, sources))
            else:
                specs[point] = spec


def _shared_points(made: Chosen) -> tuple[Point, ...]:
    named = [name for name in made.match.shares if name == "output" or _points(made, name)]
    points = [p for name in named for p in _points(made, name)]
    in_play = {name.split(".")[0] for name in made.qspecs}
    return tuple(points) if set(named) <= in_play else ()
