"""Cases of the area ``table``: rows one behind the other, and an operator that is kept in float between."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from quanthost.testing.cases.chains import Chain, among_floats, chains, kept
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.flow import Failed
from quanthost.testing.proving.judging import CHAIN_SLACK, differs, left_float
from quanthost.testing.proving.session import Check, Fault, Session, Trial, Verdict
from quanthost.values import Kernel, Recipe

__all__ = ["chained"]

_MUST = {
    "taken": "all are taken, no conversion is left between them, and the result is right",
    "floats": "behind or before what stays float, the result is right",
    "kept": "between two quantized ones, an override keeps it in float: it lowers and is right",
}


def chained(session: Session, recipe: Recipe) -> Iterator[Check]:
    """The cases of the first recipe of a kernel."""
    kernel = recipe.kernel
    asked = session.asks("table/pair") or session.asks("table/chain")
    if kernel in (Kernel.STATIC, Kernel.FLOAT) and asked:
        for chain in chains(session, recipe):
            yield _check(session, recipe, chain, "taken")
    if kernel is Kernel.DYNAMIC and session.joins_kinds and asked:
        for chain in among_floats(session, recipe):
            yield _check(session, recipe, chain, "floats")
    if kernel is Kernel.STATIC and session.asks("table/kept"):
        for chain in kept(session, recipe):
            yield _check(session, recipe, chain, "kept")


def _check(session: Session, recipe: Recipe, chain: Chain, kind: str) -> Check:
    return Check(
        id=f"table/{chain.kind}/{chain.name}/{recipe.name}",
        subject=chain.name.partition("/")[0], must=_MUST[kind],
        judge=partial(_taken if kind == "taken" else _right, session, recipe, chain.sample),
        trials=(Trial(recipe.name, chain.sample),),
    )  # fmt: skip


def _right(session: Session, recipe: Recipe, sample: Sample) -> Verdict:
    proved = session.proved(recipe.name, sample)
    text = str(proved) if isinstance(proved, Failed) else differs(proved, recipe, None, slack=CHAIN_SLACK)
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)


def _taken(session: Session, recipe: Recipe, sample: Sample) -> Verdict:
    proved = session.proved(recipe.name, sample)
    if isinstance(proved, Failed):
        return Fault(message=str(proved), sample=sample, recipe=recipe.name)
    text = left_float(proved.decisions) if recipe.kernel is not Kernel.FLOAT else None
    seams = [problem for kind, problem in proved.problems if kind == "seams"]
    text = text or next(iter(seams), None) or differs(proved, recipe, None, slack=CHAIN_SLACK)
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)
