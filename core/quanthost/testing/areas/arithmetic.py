"""Cases of the area ``numbers``: the program executed, beside the q/dq form and the golden integer form."""

from __future__ import annotations

from collections.abc import Iterator

from quanthost.graph.table import Row
from quanthost.testing.cases.samples import Regime, Sample
from quanthost.testing.proving.flow import Failed
from quanthost.testing.proving.judging import (
    CHAIN_SLACK,
    differs,
    far_from_golden,
    far_from_model,
    narrowest_bits,
)
from quanthost.testing.proving.session import Check, Fault, Session, Skip, Trial, Verdict
from quanthost.values import Kernel, Recipe

__all__ = ["REGIMES", "checks"]

REGIMES = {
    Regime.POSITIVE: "all values above zero: the zero point lies at the low end",
    Regime.NEGATIVE: "all values below zero: the zero point lies at the high end",
    Regime.TINY: "values a thousand times smaller",
    Regime.HUGE: "values ten thousand times larger",
    Regime.APART: "each of two operands is large where the other is small",
}


def checks(session: Session) -> Iterator[Check]:
    for recipe in session.recipes:
        for row in session.own_rows(recipe.kernel):
            sample = session.first(row, recipe)
            if sample is not None:
                yield from _of_row(session, row, recipe, sample)


def _of_row(session: Session, row: Row, recipe: Recipe, sample: Sample) -> Iterator[Check]:
    def check(kind: str, must: str, regime: Regime) -> Check:
        case = f"numbers/{kind}/{row.name}/{recipe.name}"
        # without a delegate the q/dq form is a simulation: what has the integers is the integer form
        golden = kind == "golden"
        in_integers = golden and not session.subject.info.runtime
        trial = Trial(recipe.name, sample, regime, in_integers, golden)
        return Check(
            id=case, subject=row.name, must=must, trials=(trial,),
            judge=lambda: _judged(session, recipe, trial, kind, case),
        )  # fmt: skip

    yield check("qdq", "runtime and q/dq form agree, in and beyond the calibrated range", Regime.PLAIN)
    yield check("model", "the q/dq form is near the model on calibration data", Regime.PLAIN)
    if recipe.kernel is not Kernel.STATIC:
        return
    yield check("golden", "the runtime has the integers of the declared arithmetic", Regime.PLAIN)
    if session.is_fused(row) and not session.full:
        return
    for regime, must in REGIMES.items():
        if sample.in_regime(regime) is not None:
            yield check(regime.value, must, regime)


def _judged(session: Session, recipe: Recipe, trial: Trial, kind: str, case: str) -> Verdict:
    sample = trial.sample
    proved = session.proved_as(trial)
    tolerance = session.expectations.tolerance(case)
    if isinstance(proved, Failed):
        return Fault(message=str(proved), sample=sample, recipe=recipe.name)
    if kind == "golden":
        if proved.no_golden:
            return Skip(f"no golden form: {proved.no_golden}")
        text = far_from_golden(proved, tolerance)
    elif kind == "model":
        text = far_from_model(proved, recipe, narrowest_bits(recipe))
    else:
        text = differs(proved, recipe, tolerance, slack=CHAIN_SLACK if sample.follows else 1.0)
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)
