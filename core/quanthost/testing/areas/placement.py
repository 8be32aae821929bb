"""Cases of the area ``placement``: what the partitioners take of the edge graph."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from quanthost.graph.table import Row
from quanthost.testing.areas.chains import build_split_chains, compare_chain
from quanthost.testing.areas.rows import judge_sample
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.case import Case, Judgment, SampleRun, fail_if
from quanthost.testing.proving.flow import SampleResult
from quanthost.testing.proving.judging import drop_folded
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.splitting import StageFailure
from quanthost.values import Kernel, Recipe

__all__ = ["derive_cases"]

_KINDS = {
    "claims": "the partitioner takes what the table says, no more and no less",
    "seams": "no conversion is left between two operators that the delegate has",
    "cycles": "no partition waits for itself",
    "pass_through": "no partition hands an input on as its output, and each computes",
}


def derive_cases(session: Session) -> Iterator[Case]:
    if not session.subject.info.runtime:
        return
    for recipe in session.selection.recipes:
        for row in session.selection.own_rows(recipe.kernel):
            sample = session.samples.find_first(row, recipe)
            if sample is not None:
                yield from _derive_row_cases(session, row, recipe, sample)
        if recipe.kernel is Kernel.STATIC:
            yield from _derive_split_cases(session, recipe)


def _derive_split_cases(session: Session, recipe: Recipe) -> Iterator[Case]:
    for chain in build_split_chains(session, recipe):
        yield Case(
            id=f"placement/around/{chain.name}/{recipe.name}", subject=chain.name,
            must="an operator outside between two delegated ones makes no cycle, and the result is right",
            judge=partial(_judge_split, session, recipe, chain.sample),
            runs=(SampleRun(recipe.name, chain.sample),),
        )  # fmt: skip


def _judge_split(session: Session, recipe: Recipe, sample: Sample) -> Judgment:
    result = session.runs.get(SampleRun(recipe.name, sample))
    if isinstance(result, StageFailure):
        return fail_if(result, recipe, sample)
    cycles = (text for kind, text in result.problems if kind == "cycles")
    problem = next(cycles, None) or compare_chain(session, recipe, sample, result, read_on=True)
    return fail_if(problem, recipe, sample)


def _derive_row_cases(session: Session, row: Row, recipe: Recipe, sample: Sample) -> Iterator[Case]:
    if row.delegated:
        yield Case(
            id=f"placement/delegated/{row.name}/{recipe.name}", subject=row.name,
            must="each operator of the row lies in the delegate", runs=(SampleRun(recipe.name, sample),),
            judge=partial(_judge_delegated, session, recipe, sample),
        )  # fmt: skip
    read_twice = [
        s for s in session.selection.samples(row)
        if s.variation.endswith("read_twice") and s.entry is sample.entry
    ]  # fmt: skip
    samples = [sample, *read_twice]
    for kind, must in _KINDS.items():
        yield Case(
            id=f"placement/{kind}/{row.name}/{recipe.name}", subject=row.name, must=must,
            runs=tuple(SampleRun(recipe.name, s) for s in samples),
            judge=partial(_judge_partitions, session, recipe, samples, kind),
        )  # fmt: skip
    for shared in read_twice:
        yield Case(
            id=f"placement/{shared.variation}/{row.name}/{recipe.name}", subject=row.name,
            must="a tensor that two operators read is right for both",
            runs=(SampleRun(recipe.name, shared),),
            judge=partial(judge_sample, session, recipe, shared, "placement/read_twice"),
        )  # fmt: skip


def _judge_delegated(session: Session, recipe: Recipe, sample: Sample) -> Judgment:
    result = session.runs.get(SampleRun(recipe.name, sample))
    if isinstance(result, StageFailure):
        return fail_if(result, recipe, sample)
    outside = (
        f"{d.node} ({d.operator}): {d.placement}" for d in drop_folded(result.decisions)
        if not d.delegated and d.in_program is not False
    )  # fmt: skip
    return fail_if("; ".join(outside) or None, recipe, sample)


def _judge_partitions(session: Session, recipe: Recipe, samples: list[Sample], kind: str) -> Judgment:
    for sample in samples:
        result = session.runs.get(SampleRun(recipe.name, sample))
        if isinstance(result, StageFailure):
            if sample is samples[0]:
                return fail_if(result, recipe, sample)
            continue
        problem = next((text for each, text in result.problems if each == kind), None)
        if problem is None and kind == "claims" and recipe.kernel is not Kernel.FLOAT:
            problem = _find_delegated_float(session, result)
        if problem is not None:
            return fail_if(problem, recipe, sample)
    return None


def _find_delegated_float(session: Session, result: SampleResult) -> str | None:
    """An operator that stays float may be delegated only if a row has a float kernel for it."""
    table = session.subject.table
    has_float = table is None or any(Kernel.FLOAT in row.kernels for row in table)
    for decision in drop_folded(result.decisions):
        if decision.delegated and decision.row is None and not has_float:
            return f"{decision.node} ({decision.operator}) is float, and lies in a delegate of integers"
    return None
