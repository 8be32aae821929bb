"""Cases of the area ``hooks``: answers are the same each time, and nothing that was given is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs
import torch
from torch import fx

from quanthost.catalogue import CATALOGUE
from quanthost.graph.digest import graph_text
from quanthost.graph.pattern import op
from quanthost.graph.table import Row, SupportTable
from quanthost.hooks.backend import TableBackend
from quanthost.hooks.manager import Plugins
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.preparing.prepare import PlannedGraph, plan
from quanthost.testing.cases.rearranged import rename, shuffle
from quanthost.testing.cases.samples import Regime, Sample, of_operator
from quanthost.testing.proving.flow import captured_of
from quanthost.testing.proving.judging import decided
from quanthost.testing.proving.row_checks import seen_of
from quanthost.testing.proving.session import Check, Fault, Session, Verdict
from quanthost.testing.proving.watching import Watcher
from quanthost.toolchain.partition import Partitioner
from quanthost.values import BackendInfo, DType, Kernel, QSpec, Recipe, Request

__all__ = ["checks"]

# what a network of every kind has
_OPERATORS = (
    "conv2d.default", "linear.default", "add.Tensor", "relu.default", "cat.default", "max_pool2d.default",
    "softmax.int", "mul.Tensor", "view.default", "mean.dim", "sigmoid.default", "layer_norm.default",
)  # fmt: skip
_Arrange = Callable[[fx.GraphModule], None]


def checks(session: Session) -> Iterator[Check]:
    yield Check(
        id="hooks/types", subject="all hooks", must="each hook answers with the type of its specification",
        judge=partial(_types, session),
    )  # fmt: skip
    yield Check(
        id="hooks/info", subject="quanthost_backend_info", must="the same answer at each call",
        judge=partial(_info, session),
    )  # fmt: skip
    yield Check(
        id="hooks/lowering", subject="quanthost_lowering_options", must="the same answer at each call",
        judge=partial(_lowering, session),
    )  # fmt: skip
    for recipe in session.subject.info.recipes:
        for kind, (must, judge) in _KINDS.items():
            yield Check(
                id=f"hooks/{kind}/{recipe.name}", subject="quanthost_annotate, quanthost_choose_qspecs",
                must=must, judge=partial(judge, session, recipe),
            )  # fmt: skip


def _samples(session: Session) -> list[Sample]:
    alone = [sample for name in _OPERATORS for sample in of_operator(CATALOGUE[name])]
    table = [
        found
        for row in session.rows()
        for found in [next((s for s in session.samples(row) if s.variation == "plain"), None)]
    ]
    return [*alone, *(sample for sample in table if sample is not None)]


def _captured(session: Session) -> CapturedModel:
    if session.common is None:
        session.common = captured_of(_samples(session))
    return session.common


def _seen(
    session: Session,
    recipe: Recipe,
    *,
    arrange: _Arrange = lambda _: None,
    beside: Any = None,
    behind: bool = False,
) -> tuple[Any, Watcher]:
    """All that was decided, comparable: by the captured nodes' names, whatever the graph's are now.

    ``beside`` is another backend in the same run, of higher priority where ``behind``.
    """
    plugins, watcher = session.subject.watched()
    request = session.subject.request(recipe.name)
    if beside is not None:
        backends = [(session.subject.name, session.subject.plugin), (beside.info.name, beside)]
        backends = backends[::-1] if behind else backends
        plugins = Plugins(backends, [("conformance", watcher)])
        request = attrs.evolve(request, backends=tuple(name for name, _ in backends))
    return _told(plan(_captured(session), plugins, request, arrange=arrange)), watcher


def _first(session: Session, recipe: Recipe) -> Any:
    """What is decided in the first run of a recipe, which later ones are compared with."""
    if recipe.name not in session.decided:
        session.decided[recipe.name] = _seen(session, recipe)[0]
    return session.decided[recipe.name]


def _told(looked: PlannedGraph) -> dict[str, Any]:
    decisions: dict[str, Any] = {
        d.node: (d.verdict.value, d.cause.value, d.backend, d.row, d.recipe) for d in looked.decisions
    }
    for made in looked.plan.matches:
        names = tuple((node.meta.get("custom") or {}).get("quanthost", node.name) for node in made.nodes)
        decisions[f"qspecs of {'+'.join(names)}"] = sorted(made.qspecs.items(), key=repr)
    return decisions


def _compared(first: Any, second: Any, when: str) -> Verdict:
    if first == second:
        return None
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    key = keys[0]
    before, after = first.get(key, "nothing"), second.get(key, "nothing")
    return Fault(message=f"{len(keys)} differ {when}; {key}: {before}, then {after}")


def _types(session: Session) -> Verdict:
    plugins, _ = session.subject.watched()
    for recipe in session.subject.info.recipes:
        request = session.subject.request(recipe.name)
        plan(_captured(session), plugins, request)
        plugins.lowering_options(request)
        made = plugins.partitioners(request, Partitioner)
        again = plugins.partitioners(request, Partitioner)
        if {id(each) for each in made} & {id(each) for each in again}:
            return Fault(
                message="quanthost_create_partitioners returns the same object twice: it keeps state"
            )
    return None


def _info(session: Session) -> Verdict:
    plugins, _ = session.subject.watched()
    first, second = plugins.info(session.subject.name), plugins.info(session.subject.name)
    return None if first == second else Fault(message=f"{first}, then {second}")


def _lowering(session: Session) -> Verdict:
    plugins, _ = session.subject.watched()
    request = session.subject.request(session.recipes[0].name)
    first, second = (_options(plugins, request) for _ in range(2))
    return None if first == second else Fault(message=f"{first}, then {second}")


def _options(plugins: Plugins, request: Request) -> list[tuple[Any, ...]]:
    """What can be compared of each answer: passes by name, modules, and the configurations' fields."""
    return [
        (
            [getattr(each, "__qualname__", type(each).__name__) for each in options.passes],
            options.runtime_modules, _fields(options.edge_compile_config), _fields(options.backend_config),
        )
        for options in plugins.lowering_options(request)
    ]  # fmt: skip


def _fields(config: Any) -> list[tuple[str, str]]:
    """Those that say something: an object of its own each time is told by its class."""
    values = {} if config is None else vars(config)
    plain = (bool, int, float, str, list, tuple, set, frozenset, dict, type(None))
    return [(k, repr(v) if isinstance(v, plain) else type(v).__name__) for k, v in sorted(values.items())]


def _twice(session: Session, recipe: Recipe) -> Verdict:
    for _ in range(2):
        again, _ = _seen(session, recipe)
        found = _compared(_first(session, recipe), again, "from one run to the next")
        if found is not None:
            return found
    return None


def _unchanged(session: Session, recipe: Recipe) -> Verdict:
    captured = _captured(session)
    before, held = graph_text(captured.exported.graph_module), _weights(captured)
    _, watcher = _seen(session, recipe)
    if watcher.changes:
        return Fault(message=watcher.changes[0])
    if graph_text(captured.exported.graph_module) != before:
        return Fault(message="the model's own graph is another one after quanthost_transform_for_annotation")
    after = _weights(captured)
    changed = [name for name, tensor in held.items() if not torch.equal(tensor, after[name])]
    return Fault(message=f"the model's own weights are changed: {', '.join(changed)}") if changed else None


def _weights(captured: CapturedModel) -> dict[str, torch.Tensor]:
    held = {**captured.exported.state_dict, **captured.exported.constants}
    return {name: x.detach().clone() for name, x in held.items() if isinstance(x, torch.Tensor)}


def _renamed(session: Session, recipe: Recipe) -> Verdict:
    other, _ = _seen(session, recipe, arrange=rename)
    return _compared(_first(session, recipe), other, "with nodes renamed")


def _shuffled(session: Session, recipe: Recipe) -> Verdict:
    for seed in range(2):
        other, _ = _seen(session, recipe, arrange=partial(shuffle, seed=seed))
        found = _compared(_first(session, recipe), other, "with independent nodes in another order")
        if found is not None:
            return found
    return None


def _stateless(session: Session, recipe: Recipe) -> Verdict:
    """Another recipe and another model in between leave nothing behind."""
    plugins, _ = session.subject.watched()
    plugins.partitioners(session.subject.request(recipe.name), Partitioner)
    first = _first(session, recipe)
    # the same names of nodes as in the first one, for other tensors
    others = list(of_operator(CATALOGUE["relu.default"], ("rank=0", "rank=7", "plain")))[::-1]
    small = captured_of(others, Regime.PLAIN)
    for other in session.subject.info.recipes:
        plan(small, plugins, session.subject.request(other.name))
        if other is not recipe:
            plugins.partitioners(session.subject.request(other.name), Partitioner)
    seen = zip(others, seen_of(session.subject, recipe.name, others, small))
    wrong = [(sample, text) for sample, found in seen if (text := decided(found, recipe)) is not None]
    if wrong:
        return Fault(message=f"another model behind: {wrong[0][1]}", sample=wrong[0][0], recipe=recipe.name)
    return _compared(first, _seen(session, recipe)[0], "after another model and other recipes")


def _beside(session: Session, recipe: Recipe) -> Verdict:
    """A backend of lower priority takes nothing of what this one decides."""
    first = _first(session, recipe)
    both, _ = _seen(session, recipe, beside=_neighbour(recipe, "tan"))
    kept = {key: value for key, value in both.items() if first.get(key, ("",))[0] == "quantized"}
    mine = {key: value for key, value in first.items() if value[0] == "quantized"}
    found = _compared(mine, kept, "beside a backend of lower priority")
    return found or _compared(first, _seen(session, recipe)[0], "after a run beside another backend")


def _behind(session: Session, recipe: Recipe) -> Verdict:
    """What a backend of higher priority has taken is closed."""
    _, watcher = _seen(
        session, recipe, beside=_neighbour(recipe, "relu", "add.Tensor", "conv2d"), behind=True
    )
    return Fault(message=watcher.intrusions[0]) if watcher.intrusions else None


def _neighbour(recipe: Recipe, *operators: str) -> TableBackend:
    """A backend that knows some operators, with a recipe of the same name."""
    spec = QSpec(dtype=DType.INT8)
    own = Recipe(name=recipe.name, kernel=Kernel.STATIC, activation=spec)
    rows = [
        Row(name=f"neighbour_{n}", pattern=op(name, self__or__input="input"), kernels={Kernel.STATIC})
        for n, name in enumerate(operators)
    ]
    return TableBackend(
        info=BackendInfo(name="conformance_neighbour", recipes=(own,)), table=SupportTable(rows)
    )


_KINDS: dict[str, tuple[str, Callable[[Session, Recipe], Verdict]]] = {
    "twice": ("the same decisions and qspecs at each run", _twice),
    "unchanged": ("annotate and validate leave the graph as it is", _unchanged),
    "renamed": ("the same decisions whatever the nodes are called", _renamed),
    "order": ("the same decisions in any order of independent nodes", _shuffled),
    "state": ("nothing is left of other runs", _stateless),
    "beside": ("the same decisions beside another backend", _beside),
    "behind": ("what a backend of higher priority has taken is left alone", _behind),
}
