"""Faults of hooks: answers that change from call to call, and arguments that hooks change."""

from __future__ import annotations

import random
from typing import Any

import attrs
from chip_backends import INFO, RECIPE, Sound, delegating, portable
from seeded import SeededFault

from quanthost.api import (
    BackendInfo,
    LoweringOptions,
    Match,
    QSpecChoice,
    Refusal,
    Request,
    Role,
    TableBackend,
    hookimpl,
    operator_name,
)
from quanthost.testing import Area

__all__ = ["FAULTS"]


class CountsMatches(TableBackend):
    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        self.calls = getattr(self, "calls", 0) + 1
        return (
            Refusal(reason="enough")
            if self.calls % 7 == 0
            else super().quanthost_choose_qspecs(match, request)
        )


class RemembersAnswers(TableBackend):
    """Caches answers by node name, which another model has too."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        cache = self.__dict__.setdefault("cache", {})
        answers: dict[str, Any] = {}
        for item in super().quanthost_annotate(graph_module, request, open_nodes):
            node = item.nodes[0] if isinstance(item, Match) else item.node
            if isinstance(item, Match) or node not in answers:
                answers[node] = item
        return [cache.setdefault(node, item) for node, item in answers.items()]


class RemembersRecipe(TableBackend):
    """Stores the request for partitioners, and uses it in the next run."""

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        return super().quanthost_choose_qspecs(match, self.__dict__.get("request", request))

    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> Any:
        self.request = request
        return super().quanthost_create_partitioners(request)


class MarksNodes(TableBackend):
    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        items = super().quanthost_annotate(graph_module, request, open_nodes)
        matched = {node for item in items if isinstance(item, Match) for node in item.nodes}
        for node in graph_module.graph.nodes:
            if node.name in matched:
                node.meta["chip_takes_it"] = True
        return items


class RewritesWhileAnnotating(TableBackend):
    """Writes the default arguments of a pool into the graph."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        for node in graph_module.graph.nodes:
            if node.op == "call_function" and operator_name(node).startswith("aten.max_pool2d"):
                node.args = (*node.args[:3], *([0, 0], [1, 1])[: 5 - len(node.args[:3])])
        return super().quanthost_annotate(graph_module, request, open_nodes)


class ScalesWeights(TableBackend):
    """Equalizes weights in place, and so changes the caller's model."""

    @hookimpl
    def quanthost_transform_for_annotation(self, graph_module: Any) -> Any:
        for name, parameter in graph_module.named_parameters():
            if name.endswith("weight_0"):
                parameter.data.mul_(0.5)
        return super().quanthost_transform_for_annotation(graph_module)


class GoesByNames(TableBackend):
    """Recognizes a residual connection by the name of the sum."""

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        if match.row == "add" and match.output != "add" and not match.output.startswith("add_"):
            return Refusal(reason="it is no residual connection")
        return super().quanthost_choose_qspecs(match, request)


class GoesByOrder(TableBackend):
    """Has room for few weights, and quantizes the operators that come first in the graph."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        items = super().quanthost_annotate(graph_module, request, open_nodes)
        weighted = [
            item for item in items if isinstance(item, Match) and ("weight", Role.WEIGHT) in item.roles
        ]
        return [item for item in items if item not in weighted[2:]]


_GENERATOR = random.Random(1)


class AsTheyCome(TableBackend):
    """Works on a set, whose order is random, and keeps as many matches as fit."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        items = list(super().quanthost_annotate(graph_module, request, open_nodes))
        _GENERATOR.shuffle(items)
        return items[: len(items) - 3]


class OnePartitioner(Sound):
    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> Any:
        if "partitioners" not in self.__dict__:
            self.partitioners = super().quanthost_create_partitioners(request)
        return self.partitioners


class AnotherInfo(TableBackend):
    """Reverses its recipes at each call, so that the default changes."""

    @hookimpl
    def quanthost_backend_info(self) -> BackendInfo:
        self.calls = getattr(self, "calls", 0) + 1
        recipes = self.info.recipes
        return attrs.evolve(self.info, recipes=recipes if self.calls % 2 else recipes[::-1])


class PlainDict(TableBackend):
    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> Any:
        choice = super().quanthost_choose_qspecs(match, request)
        return choice if isinstance(choice, Refusal) else dict(choice.qspecs)


class TakesClosedNodes(TableBackend):
    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        everything = frozenset(node.name for node in graph_module.graph.nodes)
        return super().quanthost_annotate(graph_module, request, everything)


class OnlyAlone(TableBackend):
    """Looks its recipe up for the last backend of the request, which it is only if it is alone."""

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        if request.backends[-1] != self.info.name:
            return Refusal(reason=f"no recipe {request.recipe} of {request.backends[-1]}")
        return super().quanthost_choose_qspecs(match, request)


class MorePasses(TableBackend):
    """Appends its pass to a list that lives across calls, so that it runs once more in each lowering."""

    @hookimpl
    def quanthost_lowering_options(self) -> LoweringOptions:
        self.passes = [*getattr(self, "passes", []), _no_pass]
        return attrs.evolve(self.lowering, passes=tuple(self.passes))


def _no_pass(exported: Any) -> Any:
    return exported


_TWO = attrs.evolve(
    INFO, recipes=(RECIPE, attrs.evolve(RECIPE, name="int8_narrow", activation=attrs.evolve(
        RECIPE.activation, quant_min=-127))),
)  # fmt: skip


def _faulty(name: str, fault: str, kind: type[TableBackend], info: BackendInfo = INFO) -> SeededFault:
    create = delegating if issubclass(kind, Sound) else portable
    return SeededFault(
        name=name, fault=fault, area=Area.HOOKS, only=("hooks/*",), make=lambda _: create(kind, info=info)
    )


FAULTS = (
    _faulty("counts_matches", "A counter that lives across calls makes it refuse every seventh match.",
            CountsMatches),
    _faulty("remembers_answers",
            "Answers for one model are cached by node name and reused for the next model.",
            RemembersAnswers),
    _faulty("remembers_recipe", "The recipe of the previous run is used in the next one.",
            RemembersRecipe, _TWO),
    _faulty("marks_nodes", "annotate writes into the metadata of the nodes that it reads.",
            MarksNodes),
    _faulty("rewrites_while_annotating", "annotate changes arguments in the graph that it reads.",
            RewritesWhileAnnotating),
    _faulty("scales_weights", "The transformation changes the weights of the user's own model in place.",
            ScalesWeights),
    _faulty("goes_by_names", "A decision depends on the name of a node.", GoesByNames),
    _faulty("goes_by_order", "A decision depends on the order of independent nodes.", GoesByOrder),
    _faulty("as_they_come", "Matches come out of a set in a random order, and some are dropped.",
            AsTheyCome),
    _faulty("one_partitioner", "One partitioner object serves all runs and keeps state.",
            OnePartitioner),
    _faulty("another_info", "quanthost_backend_info returns different information at each call.",
            AnotherInfo, _TWO),
    _faulty("plain_dict", "A hook returns a dict instead of its record.", PlainDict),
    _faulty("takes_closed_nodes", "It takes nodes that another backend or an override has closed.",
            TakesClosedNodes),
    _faulty("only_alone", "It refuses everything if there is a second backend in the run.", OnlyAlone),
    _faulty("more_passes", "The list of passes grows with each call.", MorePasses),
)  # fmt: skip
