"""Cases of a backend without a support table: each operator of the catalogue, whatever it does with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from quanthost.graph.pattern import op
from quanthost.graph.table import Row
from quanthost.testing.areas import qspecs, rows
from quanthost.testing.areas.arithmetic import REGIMES
from quanthost.testing.cases.samples import Regime, Sample
from quanthost.testing.proving.flow import Failed
from quanthost.testing.proving.judging import computing, differs, far_from_model, narrowest_bits
from quanthost.testing.proving.session import Check, Fault, Session, Skip, Trial, Verdict
from quanthost.testing.results import Area
from quanthost.values import Kernel, Recipe
from quanthost.values import Verdict as Decided

__all__ = ["checks"]

_QSPECS = ("ranges", "axis", "bias", "sharing")


def checks(session: Session, area: Area) -> Iterator[Check]:
    """The cases of an area; none where the backend has a table."""
    if session.subject.table is not None or area not in _OF_AREA:
        return
    for recipe in session.recipes:
        for sample in session.operators:
            if area is Area.TABLE or sample.variation == "plain":
                yield from _OF_AREA[area](session, recipe, sample)


def _table(session: Session, recipe: Recipe, sample: Sample) -> Iterator[Check]:
    yield Check(
        id=f"table/operator/{sample.name}/{recipe.name}", subject=_operator(sample),
        must="quantized or float with a reason; lowers and computes the q/dq form",
        judge=partial(rows.varied, session, recipe, sample, "table/operator"),
        trials=(Trial(recipe.name, sample),),
    )  # fmt: skip


def _qspecs(session: Session, recipe: Recipe, sample: Sample) -> Iterator[Check]:
    if recipe.kernel is Kernel.FLOAT:
        return
    row = Row(name="operator", pattern=op(_operator(sample)), kernels=(recipe.kernel,))
    for kind in _QSPECS:
        must, judge = qspecs.JUDGES[kind]
        yield Check(
            id=f"qspecs/{kind}/{sample.name}/{recipe.name}", subject=_operator(sample), must=must,
            judge=partial(_of_converted, session, recipe, sample, partial(judge, row, recipe)),
        )  # fmt: skip


def _of_converted(session: Session, recipe: Recipe, sample: Sample, judge: partial[str | None]) -> Verdict:
    converted = session.converted(recipe, sample)
    text = str(converted) if isinstance(converted, Failed) else judge(converted)
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)


def _placement(session: Session, recipe: Recipe, sample: Sample) -> Iterator[Check]:
    if session.subject.info.runtime:
        yield Check(
            id=f"placement/partition/{sample.name}/{recipe.name}", subject=_operator(sample),
            must="what is quantized lies in the delegate; no cycle, no result that is an input",
            judge=partial(_partitioned, session, recipe, sample), trials=(Trial(recipe.name, sample),),
        )  # fmt: skip


def _partitioned(session: Session, recipe: Recipe, sample: Sample) -> Verdict:
    proved = session.proved(recipe.name, sample)
    if isinstance(proved, Failed):
        return _refused(proved, recipe, sample)
    left = (
        f"{d.node} ({d.operator}) is quantized, and not in the delegate: {d.placement}"
        for d in computing(proved.decisions) if d.verdict is Decided.QUANTIZED and d.delegated is False
    )  # fmt: skip
    text = next((text for _, text in proved.problems), None) or next(left, None)
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)


def _numbers(session: Session, recipe: Recipe, sample: Sample) -> Iterator[Check]:
    regimes = {Regime.PLAIN: "the q/dq form is near the model on calibration data"}
    if recipe.kernel is Kernel.STATIC:
        regimes |= {regime: must for regime, must in REGIMES.items() if sample.in_regime(regime) is not None}
    for regime, must in regimes.items():
        kind = "model" if regime is Regime.PLAIN else regime.value
        yield Check(
            id=f"numbers/{kind}/{sample.name}/{recipe.name}", subject=_operator(sample), must=must,
            judge=partial(_near, session, recipe, sample, regime),
            trials=(Trial(recipe.name, sample, regime),),
        )  # fmt: skip


def _near(session: Session, recipe: Recipe, sample: Sample, regime: Regime) -> Verdict:
    proved = session.proved_as(Trial(recipe.name, sample, regime))
    if isinstance(proved, Failed):
        return _refused(proved, recipe, sample)
    if regime is Regime.PLAIN:
        text = far_from_model(proved, recipe, narrowest_bits(recipe))
    else:
        text = differs(proved, recipe, None)
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)


def _refused(proved: Failed, recipe: Recipe, sample: Sample) -> Verdict:
    """Once is enough: the case of the operator in the area ``table`` tells it."""
    return Skip(f"it does not lower, see table/operator/{sample.name}/{recipe.name}: {proved.short}")


def _operator(sample: Sample) -> str:
    return sample.name.partition("/")[0]


_OF_AREA = {
    Area.TABLE: _table,
    Area.QSPECS: _qspecs,
    Area.PLACEMENT: _placement,
    Area.NUMBERS: _numbers,
}
