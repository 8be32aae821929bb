"""Faults of hooks: answers that change, and things that are changed."""

from __future__ import annotations

import random
from typing import Any

import attrs
from chip_backends import INFO, RECIPE, Sound, delegating, portable
from seeded import Faulty

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
    """Keeps what it found by the names of nodes, which another model has too."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        kept = self.__dict__.setdefault("kept", {})
        found: dict[str, Any] = {}
        for item in super().quanthost_annotate(graph_module, request, open_nodes):
            node = item.nodes[0] if isinstance(item, Match) else item.node
            if isinstance(item, Match) or node not in found:
                found[node] = item
        return [kept.setdefault(node, item) for node, item in found.items()]


class RemembersRecipe(TableBackend):
    """Keeps the request that it was asked for partitioners with, and uses it in the next run."""

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        return super().quanthost_choose_qspecs(match, self.__dict__.get("kept", request))

    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> Any:
        self.kept = request
        return super().quanthost_create_partitioners(request)


class MarksNodes(TableBackend):
    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        found = super().quanthost_annotate(graph_module, request, open_nodes)
        taken = {node for item in found if isinstance(item, Match) for node in item.nodes}
        for node in graph_module.graph.nodes:
            if node.name in taken:
                node.meta["chip_takes_it"] = True
        return found


class RewritesWhileAnnotating(TableBackend):
    """Puts the default of a pool's stride where it is left out: a change of the graph."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        for node in graph_module.graph.nodes:
            if node.op == "call_function" and operator_name(node).startswith("aten.max_pool2d"):
                node.args = (*node.args[:3], *([0, 0], [1, 1])[: 5 - len(node.args[:3])])
        return super().quanthost_annotate(graph_module, request, open_nodes)


class ScalesWeights(TableBackend):
    """Equalizes weights in place: the caller's own model is another one afterwards."""

    @hookimpl
    def quanthost_transform_for_annotation(self, graph_module: Any) -> Any:
        for name, parameter in graph_module.named_parameters():
            if name.endswith("weight_0"):
                parameter.data.mul_(0.5)
        return super().quanthost_transform_for_annotation(graph_module)


class GoesByNames(TableBackend):
    """Takes a sum for a residual connection by its name."""

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        if match.row == "add" and match.output != "add" and not match.output.startswith("add_"):
            return Refusal(reason="it is no residual connection")
        return super().quanthost_choose_qspecs(match, request)


class GoesByOrder(TableBackend):
    """Has room for few weights, and takes the operators that come first in the graph."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        found = super().quanthost_annotate(graph_module, request, open_nodes)
        weighted = [
            each for each in found if isinstance(each, Match) and ("weight", Role.WEIGHT) in each.roles
        ]
        return [each for each in found if each not in weighted[2:]]


_DRAWN = random.Random(1)


class AsTheyCome(TableBackend):
    """Works on a set, whose order is another one each time, and keeps what fits."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        found = list(super().quanthost_annotate(graph_module, request, open_nodes))
        _DRAWN.shuffle(found)
        return found[: len(found) - 3]


class OnePartitioner(Sound):
    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> Any:
        if "made" not in self.__dict__:
            self.made = super().quanthost_create_partitioners(request)
        return self.made


class AnotherInfo(TableBackend):
    """Sorts its recipes by how often they were asked for: the default is another one each time."""

    @hookimpl
    def quanthost_backend_info(self) -> BackendInfo:
        self.asked = getattr(self, "asked", 0) + 1
        recipes = self.info.recipes
        return attrs.evolve(self.info, recipes=recipes if self.asked % 2 else recipes[::-1])


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
    """Looks its recipe up for the last backend of the request, which is itself only where it is alone."""

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        if request.backends[-1] != self.info.name:
            return Refusal(reason=f"no recipe {request.recipe} of {request.backends[-1]}")
        return super().quanthost_choose_qspecs(match, request)


class MorePasses(TableBackend):
    """Appends its pass to a list that it keeps: it is run once more in each lowering."""

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


def _faulty(name: str, fault: str, kind: type[TableBackend], info: BackendInfo = INFO) -> Faulty:
    made = delegating if issubclass(kind, Sound) else portable
    return Faulty(
        name=name, fault=fault, area=Area.HOOKS, only=("hooks/*",), make=lambda _: made(kind, info=info)
    )


FAULTS = (
    _faulty("counts_matches", "A count of matches, kept from call to call, refuses every seventh.",
            CountsMatches),
    _faulty("remembers_answers", "What was found in one model is kept and answers for the next one.",
            RemembersAnswers),
    _faulty("remembers_recipe", "The recipe of the run before is used in the next one.",
            RemembersRecipe, _TWO),
    _faulty("marks_nodes", "annotate leaves a mark in the metadata of the nodes that it is shown.",
            MarksNodes),
    _faulty("rewrites_while_annotating", "annotate changes arguments of the graph that it is shown.",
            RewritesWhileAnnotating),
    _faulty("scales_weights", "The transformation changes the weights of the user's own model in place.",
            ScalesWeights),
    _faulty("goes_by_names", "A decision depends on what a node is called.", GoesByNames),
    _faulty("goes_by_order", "A decision depends on the order of independent nodes.", GoesByOrder),
    _faulty("as_they_come", "Matches come out of a set in another order each time, and some are cut off.",
            AsTheyCome),
    _faulty("one_partitioner", "One partitioner object serves all runs and keeps what it saw.",
            OnePartitioner),
    _faulty("another_info", "The backend says of itself another thing at each call.", AnotherInfo, _TWO),
    _faulty("plain_dict", "A hook answers with a dict in place of its record.", PlainDict),
    _faulty("takes_closed_nodes", "It takes nodes that another backend or an override has closed.",
            TakesClosedNodes),
    _faulty("only_alone", "It refuses all as soon as a second backend takes part.", OnlyAlone),
    _faulty("more_passes", "The list of passes grows with each call.", MorePasses),
)  # fmt: skip
