"""Cases of the area ``hooks``: answers are the same each time, and arguments stay unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from quanthost.catalogue import CATALOGUE
from quanthost.graph.digest import graph_text
from quanthost.hooks.manager import Plugins
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.preparing.prepare import plan
from quanthost.testing.areas.hook_plans import HookPlans, Plan, create_neighbour
from quanthost.testing.cases.rearranged import rename, shuffle
from quanthost.testing.cases.samples import build_operator_samples
from quanthost.testing.proving.case import Case, CaseFailure, Judgment, fail_if
from quanthost.testing.proving.judging import check_decisions
from quanthost.testing.proving.programs import capture_samples
from quanthost.testing.proving.row_checks import plan_samples
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.subject import Subject
from quanthost.toolchain.partition import Partitioner
from quanthost.values import Recipe, Request

__all__ = ["derive_cases"]


def derive_cases(session: Session) -> Iterator[Case]:
    plans = HookPlans(session)
    subject = session.subject
    yield Case(
        id="hooks/types", subject="all hooks", must="each hook answers with the type of its specification",
        judge=partial(_judge_types, plans),
    )  # fmt: skip
    yield Case(
        id="hooks/info", subject="quanthost_backend_info", must="the same answer at each call",
        judge=partial(_judge_info, subject),
    )  # fmt: skip
    yield Case(
        id="hooks/lowering", subject="quanthost_lowering_options", must="the same answer at each call",
        judge=partial(_judge_lowering, subject, session.selection.recipes[0]),
    )  # fmt: skip
    for recipe in subject.info.recipes:
        for kind, (must, judge) in _KINDS.items():
            yield Case(
                id=f"hooks/{kind}/{recipe.name}", subject="quanthost_annotate, quanthost_choose_qspecs",
                must=must, judge=partial(judge, plans, recipe),
            )  # fmt: skip


def _judge_types(plans: HookPlans) -> Judgment:
    plugins, _ = plans.subject.watch()
    for recipe in plans.subject.info.recipes:
        request = plans.subject.request(recipe.name)
        plan(plans.program, plugins, request)
        plugins.lowering_options(request)
        first, second = (plugins.partitioners(request, Partitioner) for _ in range(2))
        if {id(each) for each in first} & {id(each) for each in second}:
            return CaseFailure(
                message="quanthost_create_partitioners returns the same object twice: it keeps state"
            )
    return None


def _judge_info(subject: Subject) -> Judgment:
    plugins, _ = subject.watch()
    first, second = plugins.info(subject.name), plugins.info(subject.name)
    return None if first == second else CaseFailure(message=f"{first}, then {second}")


def _judge_lowering(subject: Subject, recipe: Recipe) -> Judgment:
    plugins, _ = subject.watch()
    first, second = (_describe_options(plugins, subject.request(recipe.name)) for _ in range(2))
    return None if first == second else CaseFailure(message=f"{first}, then {second}")


def _describe_options(plugins: Plugins, request: Request) -> list[tuple[Any, ...]]:
    """The parts of each answer that can be compared: passes by name, modules, fields of configurations."""
    return [
        (
            [getattr(each, "__qualname__", type(each).__name__) for each in options.passes],
            options.runtime_modules, _describe_fields(options.edge_compile_config),
            _describe_fields(options.backend_config),
        )
        for options in plugins.lowering_options(request)
    ]  # fmt: skip


def _describe_fields(config: Any) -> list[tuple[str, str]]:
    """Plain values as text; other objects, which may be new at each call, by their class."""
    values = {} if config is None else vars(config)
    plain = (bool, int, float, str, list, tuple, set, frozenset, dict, type(None))
    return [(k, repr(v) if isinstance(v, plain) else type(v).__name__) for k, v in sorted(values.items())]


def _compare(first: Plan, second: Plan, when: str) -> Judgment:
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    if not keys:
        return None
    before, after = (plan.get(keys[0], "nothing") for plan in (first, second))
    return CaseFailure(message=f"{len(keys)} differ {when}; {keys[0]}: {before}, then {after}")


def _judge_repeated(plans: HookPlans, recipe: Recipe) -> Judgment:
    for _ in range(2):
        again, _ = plans.create(recipe)
        judgment = _compare(plans.get_first(recipe), again, "from one run to the next")
        if judgment is not None:
            return judgment
    return None


def _judge_unchanged(plans: HookPlans, recipe: Recipe) -> Judgment:
    program = plans.program
    graph, weights = graph_text(program.exported.graph_module), _copy_weights(program)
    _, watcher = plans.create(recipe)
    if watcher.changes:
        return CaseFailure(message=watcher.changes[0])
    if graph_text(program.exported.graph_module) != graph:
        return CaseFailure(message="quanthost_transform_for_annotation changed the model's own graph")
    after = _copy_weights(program)
    changed = [name for name, tensor in weights.items() if not torch.equal(tensor, after[name])]
    if changed:
        return CaseFailure(message=f"the model's own weights are changed: {', '.join(changed)}")
    return None


def _copy_weights(captured: CapturedModel) -> dict[str, torch.Tensor]:
    tensors = {**captured.exported.state_dict, **captured.exported.constants}
    return {name: x.detach().clone() for name, x in tensors.items() if isinstance(x, torch.Tensor)}


def _judge_renamed(plans: HookPlans, recipe: Recipe) -> Judgment:
    other, _ = plans.create(recipe, arrange=rename)
    return _compare(plans.get_first(recipe), other, "with nodes renamed")


def _judge_shuffled(plans: HookPlans, recipe: Recipe) -> Judgment:
    for seed in range(2):
        other, _ = plans.create(recipe, arrange=partial(shuffle, seed=seed))
        judgment = _compare(plans.get_first(recipe), other, "with independent nodes in another order")
        if judgment is not None:
            return judgment
    return None


def _judge_stateless(plans: HookPlans, recipe: Recipe) -> Judgment:
    """Another recipe and another model in between change nothing."""
    subject = plans.subject
    plugins, _ = subject.watch()
    plugins.partitioners(subject.request(recipe.name), Partitioner)
    first = plans.get_first(recipe)
    # nodes have the same names as in the first program, and other tensors
    samples = list(build_operator_samples(CATALOGUE["relu.default"], ("rank=0", "rank=7", "plain")))[::-1]
    small = capture_samples(samples)
    for other in subject.info.recipes:
        plan(small, plugins, subject.request(other.name))
        if other is not recipe:
            plugins.partitioners(subject.request(other.name), Partitioner)
    for sample, sample_plan in zip(samples, plan_samples(subject, recipe.name, samples, small)):
        problem = check_decisions(sample_plan, recipe)
        if problem is not None:
            return fail_if(f"after another model: {problem}", recipe, sample)
    return _compare(first, plans.create(recipe)[0], "after another model and other recipes")


def _judge_beside(plans: HookPlans, recipe: Recipe) -> Judgment:
    """A backend of lower priority quantizes no operator that this one quantizes."""
    first = plans.get_first(recipe)
    both, _ = plans.create(recipe, neighbour=create_neighbour(recipe, "tan"))
    own = {key: value for key, value in first.items() if value[0] == "quantized"}
    left = {key: value for key, value in both.items() if key in own}
    judgment = _compare(own, left, "beside a backend of lower priority")
    return judgment or _compare(first, plans.create(recipe)[0], "after a run beside another backend")


def _judge_behind(plans: HookPlans, recipe: Recipe) -> Judgment:
    """Nodes that a backend of higher priority has taken are closed."""
    neighbour = create_neighbour(recipe, "relu", "add.Tensor", "conv2d")
    _, watcher = plans.create(recipe, neighbour=neighbour, neighbour_first=True)
    return CaseFailure(message=watcher.intrusions[0]) if watcher.intrusions else None


_KINDS: dict[str, tuple[str, Callable[[HookPlans, Recipe], Judgment]]] = {
    "twice": ("the same decisions and qspecs at each run", _judge_repeated),
    "unchanged": ("annotate and validate leave the graph as it is", _judge_unchanged),
    "renamed": ("the same decisions whatever the nodes are called", _judge_renamed),
    "order": ("the same decisions in any order of independent nodes", _judge_shuffled),
    "state": ("nothing is left of other runs", _judge_stateless),
    "beside": ("the same decisions beside another backend", _judge_beside),
    "behind": ("what a backend of higher priority has taken is left alone", _judge_behind),
}
