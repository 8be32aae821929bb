"""Plans one program of many operators under varied conditions, in a form that can be compared."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import attrs
from torch import fx

from quanthost.catalogue import CATALOGUE
from quanthost.graph.pattern import op
from quanthost.graph.table import Row, SupportTable
from quanthost.hooks.backend import TableBackend
from quanthost.hooks.manager import Plugins
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.preparing.prepare import PlannedGraph, plan
from quanthost.testing.cases.samples import Sample, build_operator_samples
from quanthost.testing.proving.programs import capture_samples
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.subject import Subject
from quanthost.testing.proving.watching import Watcher
from quanthost.values import BackendInfo, DType, Kernel, QSpec, Recipe

__all__ = ["HookPlans", "Plan", "create_neighbour"]

# what a network of every kind has
_OPERATORS = (
    "conv2d.default", "linear.default", "add.Tensor", "relu.default", "cat.default", "max_pool2d.default",
    "softmax.int", "mul.Tensor", "view.default", "mean.dim", "sigmoid.default", "layer_norm.default",
)  # fmt: skip
Plan = dict[str, Any]
"""Decisions by captured node, and qspecs by match: the same whatever the nodes of the graph are called."""


class HookPlans:
    """Plans of a program with common operators and each row of the table."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._firsts: dict[str, Plan] = {}

    @property
    def subject(self) -> Subject:
        return self._session.subject

    @functools.cached_property
    def program(self) -> CapturedModel:
        samples = [s for name in _OPERATORS for s in build_operator_samples(CATALOGUE[name])]
        return capture_samples(
            [*samples, *filter(None, map(self._find_plain, self._session.selection.rows()))]
        )

    def _find_plain(self, row: Row) -> Sample | None:
        samples = self._session.selection.samples(row)
        return next((s for s in samples if s.variation == "plain"), None)

    def get_first(self, recipe: Recipe) -> Plan:
        """The plan of the first run of a recipe, which later ones are compared with."""
        if recipe.name not in self._firsts:
            self._firsts[recipe.name], _ = self.create(recipe)
        return self._firsts[recipe.name]

    def create(
        self,
        recipe: Recipe,
        *,
        arrange: Callable[[fx.GraphModule], None] = lambda _: None,
        neighbour: TableBackend | None = None,
        neighbour_first: bool = False,
    ) -> tuple[Plan, Watcher]:
        """Plan the program again; ``arrange`` changes the graph before the backend gets it.

        ``neighbour`` is another backend in the same run, of higher priority with ``neighbour_first``.
        """
        plugins, watcher = self.subject.watch()
        request = self.subject.request(recipe.name)
        if neighbour is not None:
            backends = [(self.subject.name, self.subject.plugin), (neighbour.info.name, neighbour)]
            backends = backends[::-1] if neighbour_first else backends
            plugins = Plugins(backends, [("conformance", watcher)])
            request = attrs.evolve(request, backends=tuple(name for name, _ in backends))
        return _describe_plan(plan(self.program, plugins, request, arrange=arrange)), watcher


def _describe_plan(graph: PlannedGraph) -> Plan:
    described: Plan = {
        d.node: (d.verdict.value, d.cause.value, d.backend, d.row, d.recipe) for d in graph.decisions
    }
    for match in graph.plan.matches:
        names = tuple((node.meta.get("custom") or {}).get("quanthost", node.name) for node in match.nodes)
        described[f"qspecs of {'+'.join(names)}"] = sorted(match.qspecs.items(), key=repr)
    return described


def create_neighbour(recipe: Recipe, *operators: str) -> TableBackend:
    """A backend that quantizes some operators, with a recipe of the same name."""
    own = Recipe(name=recipe.name, kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8))
    rows = [
        Row(name=f"neighbour_{n}", pattern=op(name, self__or__input="input"), kernels={Kernel.STATIC})
        for n, name in enumerate(operators)
    ]
    return TableBackend(
        info=BackendInfo(name="conformance_neighbour", recipes=(own,)), table=SupportTable(rows)
    )
