"""Cases of the area ``qspecs``: how each tensor of a row is quantized in the converted graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import attrs

from quanthost.graph.table import Row
from quanthost.testing.areas import qspecs_in_graph as in_graph
from quanthost.testing.areas import qspecs_in_plan as in_plan
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.case import Case, Judgment, fail_if
from quanthost.testing.proving.flow import ConvertedSample
from quanthost.testing.proving.row_checks import SamplePlan
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.splitting import StageFailure
from quanthost.values import Kernel, Recipe

__all__ = ["RULES", "QSpecRule", "derive_cases"]


@attrs.frozen
class QSpecRule:
    """What must hold, and the checks that return a problem: of the converted graph, and of the plan."""

    must: str
    check_graph: Callable[[Row, Recipe, ConvertedSample], str | None]
    check_plan: Callable[[Row, Recipe, SamplePlan], str | None] = lambda *_: None


RULES = {
    "ranges": QSpecRule(
        "integers fit their dtype, scales are finite and above zero", in_graph.check_ranges
    ),
    "axis": QSpecRule(
        "scales for channels lie along the weight's axis of output channels",
        in_graph.check_axes, in_plan.check_planned_axes,
    ),
    "bias": QSpecRule(
        "a quantized bias has input scale × weight scale, and zero point 0", in_graph.check_biases
    ),
    "sharing": QSpecRule(
        "what only moves values leaves their parameters",
        in_graph.check_sharing, in_plan.check_planned_sharing,
    ),
    "fixed": QSpecRule(
        "a fixed range is as declared, and holds what the operator makes", in_graph.check_fixed
    ),
    "declared": QSpecRule(
        "each tensor is quantized as recipe or row declare",
        in_graph.check_declared, in_plan.check_planned_roles,
    ),
}  # fmt: skip


def derive_cases(session: Session) -> Iterator[Case]:
    for recipe in session.subject.info.recipes:
        if recipe.kernel is Kernel.FLOAT:
            continue
        for row in session.selection.own_rows(recipe.kernel):
            sample = session.samples.find_first(row, recipe)
            if sample is None:
                continue
            for kind, rule in RULES.items():
                yield Case(
                    id=f"qspecs/{kind}/{row.name}/{recipe.name}", subject=row.name, must=rule.must,
                    judge=partial(_judge, session, row, recipe, sample, rule),
                )  # fmt: skip


def _judge(session: Session, row: Row, recipe: Recipe, sample: Sample, rule: QSpecRule) -> Judgment:
    plan = session.plans.get(recipe, sample)
    if isinstance(plan, StageFailure):
        return fail_if(plan, recipe, sample)
    problem = rule.check_plan(row, recipe, plan)
    converted = session.convert(recipe, sample)
    if isinstance(converted, StageFailure):
        return fail_if(problem or converted, recipe, sample)
    if sample.producer:
        # the sites before are another row's
        own = {node for check in plan.checks_of(row.name) for node in check.nodes}
        converted = attrs.evolve(converted, sites=tuple(s for s in converted.sites if s.origin in own))
    return fail_if(rule.check_graph(row, recipe, converted) or problem, recipe, sample)
