"""Cases for a backend without a support table: each operator of the catalogue, quantized or not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from quanthost.graph.pattern import op
from quanthost.graph.table import Row
from quanthost.testing.areas import qspecs, rows
from quanthost.testing.areas.arithmetic import REGIMES
from quanthost.testing.cases.samples import Regime, Sample
from quanthost.testing.proving.case import Case, CaseSkip, Judgment, SampleRun, fail_if
from quanthost.testing.proving.judging import compare_model, compare_runtime, drop_folded
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.splitting import StageFailure
from quanthost.testing.results import Area
from quanthost.values import Kernel, Recipe, Verdict

__all__ = ["derive_cases"]

_QSPECS = ("ranges", "axis", "bias", "sharing")


def derive_cases(session: Session, area: Area) -> Iterator[Case]:
    """The cases of an area; none if the backend has a table."""
    if session.subject.table is not None or area not in _OF_AREA:
        return
    for recipe in session.selection.recipes:
        for sample in session.selection.operators:
            if area is Area.TABLE or sample.variation == "plain":
                yield from _OF_AREA[area](session, recipe, sample)


def _derive_table_cases(session: Session, recipe: Recipe, sample: Sample) -> Iterator[Case]:
    yield Case(
        id=f"table/operator/{sample.name}/{recipe.name}", subject=_operator(sample),
        must="quantized or float with a reason; lowers and computes the q/dq form",
        judge=partial(rows.judge_sample, session, recipe, sample, "table/operator"),
        runs=(SampleRun(recipe.name, sample),),
    )  # fmt: skip


def _derive_qspec_cases(session: Session, recipe: Recipe, sample: Sample) -> Iterator[Case]:
    if recipe.kernel is Kernel.FLOAT:
        return
    row = Row(name="operator", pattern=op(_operator(sample)), kernels=(recipe.kernel,))
    for kind in _QSPECS:
        yield Case(
            id=f"qspecs/{kind}/{sample.name}/{recipe.name}", subject=_operator(sample),
            must=qspecs.RULES[kind].must,
            judge=partial(_judge_converted, session, row, recipe, sample, qspecs.RULES[kind]),
        )  # fmt: skip


def _judge_converted(
    session: Session, row: Row, recipe: Recipe, sample: Sample, rule: qspecs.QSpecRule
) -> Judgment:
    converted = session.convert(recipe, sample)
    problem = converted if isinstance(converted, StageFailure) else rule.check_graph(row, recipe, converted)
    return fail_if(problem, recipe, sample)


def _derive_placement_cases(session: Session, recipe: Recipe, sample: Sample) -> Iterator[Case]:
    if session.subject.info.runtime:
        yield Case(
            id=f"placement/partition/{sample.name}/{recipe.name}", subject=_operator(sample),
            must="what is quantized lies in the delegate; no cycle, no result that is an input",
            judge=partial(_judge_partition, session, recipe, sample),
            runs=(SampleRun(recipe.name, sample),),
        )  # fmt: skip


def _judge_partition(session: Session, recipe: Recipe, sample: Sample) -> Judgment:
    result = session.runs.get(SampleRun(recipe.name, sample))
    if isinstance(result, StageFailure):
        return _skip(result, recipe, sample)
    outside = (
        f"{d.node} ({d.operator}) is quantized, and not in the delegate: {d.placement}"
        for d in drop_folded(result.decisions) if d.verdict is Verdict.QUANTIZED and d.delegated is False
    )  # fmt: skip
    problem = next((text for _, text in result.problems), None) or next(outside, None)
    return fail_if(problem, recipe, sample)


def _derive_number_cases(session: Session, recipe: Recipe, sample: Sample) -> Iterator[Case]:
    regimes = {Regime.PLAIN: "the q/dq form is near the model on calibration data"}
    if recipe.kernel is Kernel.STATIC:
        regimes |= {regime: must for regime, must in REGIMES.items() if sample.scale_to(regime) is not None}
    for regime, must in regimes.items():
        kind = "model" if regime is Regime.PLAIN else regime.value
        run = SampleRun(recipe.name, sample, regime)
        yield Case(
            id=f"numbers/{kind}/{sample.name}/{recipe.name}", subject=_operator(sample), must=must,
            judge=partial(_judge_numbers, session, recipe, run), runs=(run,),
        )  # fmt: skip


def _judge_numbers(session: Session, recipe: Recipe, run: SampleRun) -> Judgment:
    result = session.runs.get(run)
    if isinstance(result, StageFailure):
        return _skip(result, recipe, run.sample)
    if run.regime is Regime.PLAIN:
        return fail_if(compare_model(result, recipe), recipe, run.sample)
    return fail_if(compare_runtime(result, recipe, None), recipe, run.sample)


def _skip(failure: StageFailure, recipe: Recipe, sample: Sample) -> CaseSkip:
    """The case of the operator in the area ``table`` reports the failure; once is enough."""
    case = f"table/operator/{sample.name}/{recipe.name}"
    return CaseSkip(f"it does not lower, see {case}: {failure.first_line}")


def _operator(sample: Sample) -> str:
    return sample.name.partition("/")[0]


_OF_AREA = {
    Area.TABLE: _derive_table_cases,
    Area.QSPECS: _derive_qspec_cases,
    Area.PLACEMENT: _derive_placement_cases,
    Area.NUMBERS: _derive_number_cases,
}
