"""Cases of the area ``numbers``: the executed program against the q/dq form and the golden integer form."""

from __future__ import annotations

from collections.abc import Iterator

from quanthost.graph.table import Row
from quanthost.testing.cases.samples import Regime, Sample
from quanthost.testing.proving.case import Case, CaseSkip, Judgment, SampleRun, fail_if
from quanthost.testing.proving.judging import CHAIN_SLACK, compare_golden, compare_model, compare_runtime
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.splitting import StageFailure
from quanthost.values import Kernel, Recipe

__all__ = ["REGIMES", "derive_cases"]

REGIMES = {
    Regime.POSITIVE: "all values above zero: the zero point lies at the low end",
    Regime.NEGATIVE: "all values below zero: the zero point lies at the high end",
    Regime.TINY: "values a thousand times smaller",
    Regime.HUGE: "values ten thousand times larger",
    Regime.APART: "each of two operands is large where the other is small",
}


def derive_cases(session: Session) -> Iterator[Case]:
    for recipe in session.selection.recipes:
        for row in session.selection.own_rows(recipe.kernel):
            sample = session.samples.find_first(row, recipe)
            if sample is not None:
                yield from _derive_row_cases(session, row, recipe, sample)


def _derive_row_cases(session: Session, row: Row, recipe: Recipe, sample: Sample) -> Iterator[Case]:
    def case(kind: str, must: str, regime: Regime) -> Case:
        id = f"numbers/{kind}/{row.name}/{recipe.name}"
        # without a delegate the q/dq form is a simulation: the integer form is what has the integers
        golden = kind == "golden"
        in_integers = golden and not session.subject.info.runtime
        run = SampleRun(recipe.name, sample, regime, in_integers, golden)
        return Case(
            id=id, subject=row.name, must=must, runs=(run,),
            judge=lambda: _judge(session, recipe, run, kind, id),
        )  # fmt: skip

    yield case("qdq", "runtime and q/dq form agree, in and beyond the calibrated range", Regime.PLAIN)
    yield case("model", "the q/dq form is near the model on calibration data", Regime.PLAIN)
    if recipe.kernel is not Kernel.STATIC:
        return
    yield case("golden", "the runtime has the integers of the declared arithmetic", Regime.PLAIN)
    if session.selection.is_fused(row) and not session.selection.full:
        return
    for regime, must in REGIMES.items():
        if sample.scale_to(regime) is not None:
            yield case(regime.value, must, regime)


def _judge(session: Session, recipe: Recipe, run: SampleRun, kind: str, id: str) -> Judgment:
    sample = run.sample
    result = session.runs.get(run)
    tolerance = session.expectations.tolerance(id)
    if isinstance(result, StageFailure):
        return fail_if(result, recipe, sample)
    if kind == "golden":
        if result.no_golden:
            return CaseSkip(f"no golden form: {result.no_golden}")
        problem = compare_golden(result, tolerance)
    elif kind == "model":
        problem = compare_model(result, recipe)
    else:
        slack = CHAIN_SLACK if sample.producer else 1.0
        problem = compare_runtime(result, recipe, tolerance, slack=slack)
    return fail_if(problem, recipe, sample)
