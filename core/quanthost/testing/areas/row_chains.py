"""Cases of the area ``table``: rows in sequence, and an operator in float between quantized ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from quanthost.testing.areas.chains import (
    Chain,
    build_chains,
    build_chains_with_float,
    build_kept_in_float,
    compare_chain,
)
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.case import Case, Judgment, SampleRun, fail_if
from quanthost.testing.proving.judging import find_float
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.splitting import StageFailure
from quanthost.values import Kernel, Recipe

__all__ = ["derive_chain_cases"]

_Judge = Callable[[Session, Recipe, Sample], Judgment]


def derive_chain_cases(session: Session, recipe: Recipe) -> Iterator[Case]:
    """The cases of the first recipe of a kernel."""
    kernel, selection = recipe.kernel, session.selection
    has_chains = selection.includes_kind("table/pair") or selection.includes_kind("table/chain")
    if kernel in (Kernel.STATIC, Kernel.FLOAT) and has_chains:
        must = "all are taken, no conversion is left between them, and the result is right"
        for chain in build_chains(session, recipe):
            yield _build_case(session, recipe, chain, must, _judge_taken)
    if kernel is Kernel.DYNAMIC and selection.joins_kinds and has_chains:
        must = "before or after operators that stay float, the result is right"
        for chain in build_chains_with_float(session, recipe):
            yield _build_case(session, recipe, chain, must, _judge_result)
    if kernel is Kernel.STATIC and selection.includes_kind("table/kept"):
        must = "between two quantized ones, an override keeps it in float: it lowers and is right"
        for chain in build_kept_in_float(session, recipe):
            yield _build_case(session, recipe, chain, must, _judge_result)


def _build_case(session: Session, recipe: Recipe, chain: Chain, must: str, judge: _Judge) -> Case:
    return Case(
        id=f"table/{chain.kind}/{chain.name}/{recipe.name}", subject=chain.name.partition("/")[0], must=must,
        judge=partial(judge, session, recipe, chain.sample), runs=(SampleRun(recipe.name, chain.sample),),
    )  # fmt: skip


def _judge_result(session: Session, recipe: Recipe, sample: Sample) -> Judgment:
    result = session.runs.get(SampleRun(recipe.name, sample))
    if isinstance(result, StageFailure):
        return fail_if(result, recipe, sample)
    return fail_if(compare_chain(session, recipe, sample, result), recipe, sample)


def _judge_taken(session: Session, recipe: Recipe, sample: Sample) -> Judgment:
    result = session.runs.get(SampleRun(recipe.name, sample))
    if isinstance(result, StageFailure):
        return fail_if(result, recipe, sample)
    problem = find_float(result.decisions) if recipe.kernel is not Kernel.FLOAT else None
    seams = (text for kind, text in result.problems if kind == "seams")
    problem = problem or next(seams, None) or compare_chain(session, recipe, sample, result)
    return fail_if(problem, recipe, sample)
