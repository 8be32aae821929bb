"""Cases of the area ``table``: each row alone, varied, at the edges of its constraints, and in sequence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from quanthost.graph.table import Constraint, Row
from quanthost.testing.areas.row_chains import derive_chain_cases
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.case import Case, CaseFailure, CaseSkip, Judgment, SampleRun, fail_if
from quanthost.testing.proving.float_backend import is_refused_by_all
from quanthost.testing.proving.flow import SampleResult
from quanthost.testing.proving.judging import (
    CHAIN_SLACK,
    check_decisions,
    check_delegation,
    compare_runtime,
    find_float,
    is_split_among_rows,
)
from quanthost.testing.proving.row_checks import SamplePlan
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.splitting import StageFailure
from quanthost.values import Kernel, Recipe

__all__ = ["derive_cases", "judge_sample"]

# the shapes, ranks and layouts that the quick set tries for each row that is not fused
_QUICK = ("rank=0", "rank=1", "rank=6", "rank=7", "batch=0", "batch=1", "channels_last", "transposed",
          "transposed=True", "dynamic_batch", "float64", "input_read_twice", "output_read_twice",
          "unbatched")  # fmt: skip


def derive_cases(session: Session) -> Iterator[Case]:
    selection = session.selection
    for recipe in selection.recipes:
        for row in selection.own_rows(recipe.kernel):
            if selection.includes_kind("table/single") or selection.includes_kind("table/variation"):
                yield from _derive_row_cases(session, row, recipe)
            if selection.includes_kind("table/edge") and (selection.full or not selection.is_fused(row)):
                for rule in row.constraints:
                    if rule.applies_to(recipe.kernel):
                        yield _derive_edge_case(session, row, recipe, rule)
        if session.subject.table is None:
            continue
        if selection.includes_kind("table/undeclared") and (selection.full or recipe is selection.recipes[0]):
            yield from _derive_undeclared_cases(session, recipe)
        if recipe is selection.recipe_of(recipe.kernel):
            yield from derive_chain_cases(session, recipe)


def _derive_row_cases(session: Session, row: Row, recipe: Recipe) -> Iterator[Case]:
    first = session.samples.find_first(row, recipe)
    yield Case(
        id=f"table/single/{row.name}/{recipe.name}", subject=row.name,
        must="the row decides its operators, and the program lowers",
        judge=partial(_judge_single, session, row, recipe, first),
        runs=() if first is None else (SampleRun(recipe.name, first),),
    )  # fmt: skip
    # if the row works behind others alone, those samples are what varies
    has_producer = first is not None and first.producer is not None
    with_producer = session.samples.producers.get(row, recipe) if has_producer else ()
    for sample in (*session.selection.samples(row), *with_producer):
        if sample is not first and (session.selection.full or _is_quick(session, row, recipe, sample)):
            variation = sample.name.partition("/")[2]
            yield Case(
                id=f"table/variation/{row.name}/{variation}/{recipe.name}", subject=row.name,
                must="decided as the table says, a reason where float; lowers and computes the q/dq form",
                judge=partial(judge_sample, session, recipe, sample, "table/variation"),
                runs=(SampleRun(recipe.name, sample),),
            )  # fmt: skip


def _is_quick(session: Session, row: Row, recipe: Recipe, sample: Sample) -> bool:
    selection = session.selection
    if recipe.kernel not in (Kernel.STATIC, Kernel.FLOAT) or selection.is_fused(row):
        return False
    is_first = sample.variation in _QUICK and row.name == selection.first_alike(row.name)
    return selection.is_small or is_first


def _judge_single(session: Session, row: Row, recipe: Recipe, sample: Sample | None) -> Judgment:
    plain = next((s for s in session.selection.samples(row) if s.variation == "plain"), None)
    if plain is not None and isinstance(failure := session.plans.get(recipe, plain), StageFailure):
        return fail_if(failure, recipe, plain)
    if sample is None:
        return _explain_unreached(session, row, recipe)
    plan = session.plans.get(recipe, sample)
    if isinstance(plan, StageFailure):
        return fail_if(plan, recipe, sample)
    if recipe.kernel is not Kernel.FLOAT:
        rows = {d.row for d in plan.decisions if d.row is not None}
        problem = check_decisions(plan, recipe) or find_float(plan.decisions)
        if problem is None and row.name not in rows:
            problem = f"it is decided by {', '.join(sorted(rows)) or 'no row'}, though {row.name} holds"
        if problem is not None:
            return fail_if(problem, recipe, sample)
    result = session.runs.get(SampleRun(recipe.name, sample))
    return fail_if(result, recipe, sample) if isinstance(result, StageFailure) else None


def _explain_unreached(session: Session, row: Row, recipe: Recipe) -> Judgment:
    own = session.selection.samples(row)
    if not own:
        return CaseSkip(f"the catalogue has no arguments for {row.pattern}")
    samples = (*own, *session.samples.producers.get(row, recipe))
    checks = (check for sample in samples for check in session.plans.check_row(row, recipe, sample))
    check = next(checks, None)
    if check is not None:
        reason = check.refusals[0][1]
        return CaseSkip(f"not reached: no variation of the catalogue is accepted ({reason})")
    return CaseSkip("not reached: no captured graph has its pattern, other operators stand for it")


def judge_sample(session: Session, recipe: Recipe, sample: Sample, case: str) -> Judgment:
    """The sample is decided as the table says, lowers, and computes what the q/dq form does.

    ``case`` is the kind of the case, with which tolerances name it.
    """
    plan = session.plans.get(recipe, sample)
    if isinstance(plan, StageFailure):
        return fail_if(plan, recipe, sample)
    problem = check_decisions(plan, recipe)
    if problem is not None:
        return fail_if(problem, recipe, sample)
    result = session.runs.get(SampleRun(recipe.name, sample))
    if isinstance(result, StageFailure) and result.is_without_data:
        return CaseSkip("calibration finds no range in an empty tensor")
    if result.is_idle:
        return CaseSkip("nothing is computed: the outputs are the inputs")
    if isinstance(result, StageFailure):
        if not _is_in_table(plan) and is_refused_by_all(sample):
            reason = result.first_line
            return CaseSkip(f"no row takes it, and ExecuTorch's own kernels refuse it too: {reason}")
        return fail_if(result, recipe, sample)
    # a second operator that reads the result may amplify a step
    read_on = sample.variation.endswith("read_twice")
    # if the row under test refuses, others may take its operators one by one
    in_parts = is_split_among_rows(result) or sample.producer is not None
    slack = 2.0 if read_on else CHAIN_SLACK if in_parts else 1.0
    tolerance = session.expectations.tolerance(f"{case}/{sample.name}/{recipe.name}")
    problem = compare_runtime(result, recipe, tolerance, slack=slack, read_on=read_on)
    if problem is None and not read_on:
        problem = _check_outside(session, recipe, sample, result)
    return fail_if(problem, recipe, sample)


def _check_outside(session: Session, recipe: Recipe, sample: Sample, result: SampleResult) -> str | None:
    """What is quantized for the delegate lies in it, at least where the sample has its own program."""
    subject = session.subject
    if not subject.info.runtime or check_delegation(result, recipe, subject.table) is None:
        return None
    # an operator that is refused at one place is kept whole at no other of that program
    alone = session.runs.run_alone(recipe.name, sample)
    return str(alone) if isinstance(alone, StageFailure) else check_delegation(alone, recipe, subject.table)


def _is_in_table(plan: SamplePlan) -> bool:
    """Whether a row quantizes some of it, or could."""
    return any(d.row is not None for d in plan.decisions) or any(check.holds for check in plan.row_checks)


def _derive_edge_case(session: Session, row: Row, recipe: Recipe, rule: Constraint) -> Case:
    accepted, refused = _find_sides(session, row, recipe, rule)
    runs = () if accepted is None or refused is None else (
        SampleRun(recipe.name, accepted), SampleRun(recipe.name, refused)
    )  # fmt: skip
    slug = re.sub(r"[^a-z0-9]+", "_", rule.text.lower()).strip("_")
    return Case(
        id=f"table/edge/{row.name}/{slug}/{recipe.name}", subject=row.name, runs=runs,
        must=f"{rule.text}: what just fits is taken and right, what just does not is refused so",
        judge=partial(_judge_edge, session, row, recipe, accepted, refused),
    )  # fmt: skip


def _find_sides(
    session: Session, row: Row, recipe: Recipe, rule: Constraint
) -> tuple[Sample | None, Sample | None]:
    """An accepted sample, if possible of the same operator, and one that this constraint alone refuses."""
    refused = session.samples.find_refused(row, recipe, rule)
    accepted = session.samples.find_accepted(row, recipe)
    alike = [s for s in accepted if refused is not None and s.entry is refused.entry]
    return next(iter(alike or accepted), None), refused


def _judge_edge(
    session: Session, row: Row, recipe: Recipe, accepted: Sample | None, refused: Sample | None
) -> Judgment:
    if refused is None:
        return CaseSkip("not reached: no variation of the catalogue is refused by this constraint alone")
    if accepted is None:
        return CaseSkip("not reached: no variation of the catalogue is accepted by the row")
    for side in (accepted, refused):
        judgment = judge_sample(session, recipe, side, "table/edge")
        if judgment is not None:
            return judgment
    if recipe.kernel is Kernel.FLOAT:
        return None
    plan = session.plans.get(recipe, refused)
    assert not isinstance(plan, StageFailure)
    # if several rows refuse, the decision has the reason of one of them
    reasons = [reason for check in plan.row_checks for _, reason in check.refusals]
    has_reason = any(reason in decision.reason for decision in plan.decisions for reason in reasons)
    is_taken = any(decision.row not in (None, row.name) for decision in plan.decisions)
    if has_reason or is_taken:
        return None
    reason = next(check.refusals[0][1] for check in plan.checks_of(row.name) if check.refusals)
    stated = "; ".join(d.reason for d in plan.decisions)
    message = f"refused because {reason}, which no decision says: {stated}"
    return CaseFailure(message=message, sample=refused, recipe=recipe.name)


def _derive_undeclared_cases(session: Session, recipe: Recipe) -> Iterator[Case]:
    for sample in session.selection.undeclared[recipe.kernel]:
        operator = sample.name.partition("/")[0]
        yield Case(
            id=f"table/undeclared/{operator}/{recipe.name}", subject=operator,
            must="no row has it: it stays float with a reason, and the program is right",
            judge=partial(judge_sample, session, recipe, sample, "table/undeclared"),
            runs=(SampleRun(recipe.name, sample),),
        )  # fmt: skip
