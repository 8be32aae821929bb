"""Cases of the area ``placement``: what the partitioners take of the edge graph."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from quanthost.graph.table import Row
from quanthost.testing.areas.rows import varied
from quanthost.testing.cases.chains import around
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.flow import Failed, Proved
from quanthost.testing.proving.judging import CHAIN_SLACK, computing, differs
from quanthost.testing.proving.session import Check, Fault, Session, Trial, Verdict
from quanthost.values import Kernel, Recipe

__all__ = ["checks"]

_KINDS = {
    "claims": "the partitioner takes what the table says, no more and no less",
    "seams": "no conversion is left between two operators that the delegate has",
    "cycles": "no partition waits for itself",
    "pass_through": "no partition hands an input on as its output, and each computes",
}


def checks(session: Session) -> Iterator[Check]:
    if not session.subject.info.runtime:
        return
    for recipe in session.recipes:
        for row in session.own_rows(recipe.kernel):
            sample = session.first(row, recipe)
            if sample is not None:
                yield from _of_row(session, row, recipe, sample)
        if recipe.kernel is Kernel.STATIC:
            yield from _around(session, recipe)


def _around(session: Session, recipe: Recipe) -> Iterator[Check]:
    for chain in around(session, recipe):
        yield Check(
            id=f"placement/around/{chain.name}/{recipe.name}", subject=chain.name,
            must="what stays outside between two delegated operators makes no cycle, and the result is right",
            judge=partial(_outside, session, recipe, chain.sample),
            trials=(Trial(recipe.name, chain.sample),),
        )  # fmt: skip


def _outside(session: Session, recipe: Recipe, sample: Sample) -> Verdict:
    proved = session.proved(recipe.name, sample)
    if isinstance(proved, Failed):
        return Fault(message=str(proved), sample=sample, recipe=recipe.name)
    cycles = (text for kind, text in proved.problems if kind == "cycles")
    text = next(cycles, None) or differs(proved, recipe, None, slack=CHAIN_SLACK, read_on=True)
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)


def _of_row(session: Session, row: Row, recipe: Recipe, sample: Sample) -> Iterator[Check]:
    if row.delegated:
        yield Check(
            id=f"placement/delegated/{row.name}/{recipe.name}", subject=row.name,
            must="each operator of the row lies in the delegate", trials=(Trial(recipe.name, sample),),
            judge=lambda: _delegated(session, recipe, sample),
        )  # fmt: skip
    read_twice = (s for s in session.samples(row) if s.variation.endswith("read_twice"))
    around = [sample, *(s for s in read_twice if s.entry is sample.entry)]
    for kind, must in _KINDS.items():
        yield Check(
            id=f"placement/{kind}/{row.name}/{recipe.name}", subject=row.name, must=must,
            trials=tuple(Trial(recipe.name, s) for s in around),
            judge=partial(_partitioned, session, recipe, around, kind),
        )  # fmt: skip
    for shared in around[1:]:
        yield Check(
            id=f"placement/{shared.variation}/{row.name}/{recipe.name}", subject=row.name,
            must="a tensor that two read is right for both", trials=(Trial(recipe.name, shared),),
            judge=partial(varied, session, recipe, shared, "placement/read_twice"),
        )  # fmt: skip


def _delegated(session: Session, recipe: Recipe, sample: Sample) -> Verdict:
    proved = session.proved(recipe.name, sample)
    if isinstance(proved, Failed):
        return Fault(message=str(proved), sample=sample, recipe=recipe.name)
    left = [d for d in computing(proved.decisions) if not d.delegated and d.in_program is not False]
    if not left:
        return None
    text = "; ".join(f"{d.node} ({d.operator}): {d.placement}" for d in left)
    return Fault(message=text, sample=sample, recipe=recipe.name)


def _partitioned(session: Session, recipe: Recipe, samples: list[Sample], kind: str) -> Verdict:
    for sample in samples:
        proved: Proved | Failed = session.proved(recipe.name, sample)
        if isinstance(proved, Failed):
            if sample is samples[0]:
                return Fault(message=str(proved), sample=sample, recipe=recipe.name)
            continue
        found = [text for each, text in proved.problems if each == kind]
        if found:
            return Fault(message=found[0], sample=sample, recipe=recipe.name)
        if kind == "claims" and recipe.kernel is not Kernel.FLOAT:
            text = _float_in_integers(session, proved)
            if text is not None:
                return Fault(message=text, sample=sample, recipe=recipe.name)
    return None


def _float_in_integers(session: Session, proved: Proved) -> str | None:
    """An operator that stays float is delegated only where a row has a float kernel for it."""
    table = session.subject.table
    has_float = table is None or any(Kernel.FLOAT in row.kernels for row in table)
    for decision in computing(proved.decisions):
        if decision.delegated and decision.row is None and not has_float:
            return f"{decision.node} ({decision.operator}) is float, and lies in the delegate of integers"
    return None
