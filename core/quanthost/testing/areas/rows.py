"""Cases of the area ``table``: each row alone, varied, at the edges of its constraints, and in chains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from quanthost.graph.table import Constraint, Row
from quanthost.testing.areas.row_chains import chained
from quanthost.testing.cases.float_backend import is_refused_by_all
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.flow import Failed, Proved
from quanthost.testing.proving.judging import (
    CHAIN_SLACK,
    decided,
    differs,
    is_in_parts,
    left_float,
    left_outside,
)
from quanthost.testing.proving.row_checks import Seen
from quanthost.testing.proving.session import Check, Fault, Session, Skip, Trial, Verdict
from quanthost.values import Kernel, Recipe

__all__ = ["checks"]

# the shapes, ranks and layouts that the quick set tries of each row that is no other with one more operator
_QUICK = ("rank=0", "rank=1", "rank=6", "rank=7", "batch=0", "batch=1", "channels_last", "transposed",
          "transposed=True", "dynamic_batch", "float64", "input_read_twice", "output_read_twice",
          "unbatched")  # fmt: skip


def checks(session: Session) -> Iterator[Check]:
    for recipe in session.recipes:
        for row in session.own_rows(recipe.kernel):
            yield from _of_row(session, row, recipe)
        if session.subject.table is None:
            continue
        if session.asks("table/undeclared") and (session.full or recipe is session.recipes[0]):
            yield from _undeclared(session, recipe)
        if recipe is session.recipe_of(recipe.kernel):
            yield from chained(session, recipe)


def _of_row(session: Session, row: Row, recipe: Recipe) -> Iterator[Check]:
    if session.asks("table/single") or session.asks("table/variation"):
        yield from _at_work(session, row, recipe)
    if session.asks("table/edge") and (session.full or not session.is_fused(row)):
        for rule in row.constraints:
            if rule.applies_to(recipe.kernel):
                yield _edge(session, row, recipe, rule)


def _at_work(session: Session, row: Row, recipe: Recipe) -> Iterator[Check]:
    first = session.first(row, recipe)
    yield Check(
        id=f"table/single/{row.name}/{recipe.name}", subject=row.name,
        must="the row decides its operators, and the program lowers",
        judge=lambda: _single(session, row, recipe, first),
        trials=() if first is None else (Trial(recipe.name, first),),
    )  # fmt: skip
    # where it works behind others alone, those are what varies
    behind = session.behind.samples(row, recipe) if first is not None and first.follows else ()
    for sample in (*session.samples(row), *behind):
        if sample is not first and (session.full or _is_quick(session, row, recipe, sample)):
            yield Check(
                id=f"table/variation/{row.name}/{sample.name.partition('/')[2]}/{recipe.name}",
                subject=row.name,
                must="decided as the table says, a reason where float; lowers and computes the q/dq form",
                judge=partial(varied, session, recipe, sample, "table/variation"),
                trials=(Trial(recipe.name, sample),),
            )  # fmt: skip


def _is_quick(session: Session, row: Row, recipe: Recipe, sample: Sample) -> bool:
    if recipe.kernel not in (Kernel.STATIC, Kernel.FLOAT):
        return False
    if session.is_fused(row):
        return False
    return session.is_small or (sample.variation in _QUICK and row.name == session.kin(row.name))


def _single(session: Session, row: Row, recipe: Recipe, sample: Sample | None) -> Verdict:
    plain = next((s for s in session.samples(row) if s.variation == "plain"), None)
    if plain is not None and isinstance(failed := session.seen(recipe, plain), Failed):
        return Fault(message=str(failed), sample=plain, recipe=recipe.name)
    if sample is None:
        return _not_met(session, row, recipe)
    seen = session.seen(recipe, sample)
    if isinstance(seen, Failed):
        return Fault(message=str(seen), sample=sample, recipe=recipe.name)
    if recipe.kernel is not Kernel.FLOAT:
        rows = {d.row for d in seen.decisions if d.row is not None}
        text = decided(seen, recipe) or left_float(seen.decisions)
        if text is None and row.name not in rows:
            text = f"it is decided by {', '.join(sorted(rows)) or 'no row'}, though {row.name} holds"
        if text is not None:
            return Fault(message=text, sample=sample, recipe=recipe.name)
    proved = session.proved(recipe.name, sample)
    return (
        Fault(message=str(proved), sample=sample, recipe=recipe.name) if isinstance(proved, Failed) else None
    )


def _not_met(session: Session, row: Row, recipe: Recipe) -> Verdict:
    samples = session.samples(row)
    if not samples:
        return Skip(f"the catalogue has no arguments for {row.pattern}")
    tried = (*samples, *session.behind.samples(row, recipe))
    refused = [met for sample in tried for met in session.met(row, recipe, sample)]
    if refused:
        return Skip(f"not reached: no variation of the catalogue is accepted ({refused[0].refusals[0][1]})")
    return Skip("not reached: its pattern is in no captured graph, other operators stand for it")


def varied(session: Session, recipe: Recipe, sample: Sample, case: str) -> Verdict:
    """Decided as the table says, lowers, and computes what the q/dq form does."""
    seen = session.seen(recipe, sample)
    text = str(seen) if isinstance(seen, Failed) else decided(seen, recipe)
    if text is None:
        proved = session.proved(recipe.name, sample)
        tolerance = session.expectations.tolerance(f"{case}/{sample.name}/{recipe.name}")
        # a second operator that reads the result may make more of a step
        read_on = sample.variation.endswith("read_twice")
        # where the row under test is refused, others may take its operators one by one
        in_parts = not isinstance(proved, Failed) and is_in_parts(proved)
        slack = 2.0 if read_on else CHAIN_SLACK if in_parts or sample.follows else 1.0
        if isinstance(proved, Failed) and proved.is_without_data:
            return Skip("an empty tensor has no range that calibration could find")
        if proved.is_idle:
            return Skip("nothing of it is computed: its outputs are its inputs")
        if isinstance(proved, Failed) and not _is_taken(seen) and is_refused_by_all(sample):
            return Skip(f"no row takes it, and ExecuTorch's own kernels refuse it too: {proved.short}")
        text = (
            str(proved) if isinstance(proved, Failed)
            else differs(proved, recipe, tolerance, slack=slack, read_on=read_on)
            or (None if read_on else _left_outside(session, recipe, sample, proved))
        )  # fmt: skip
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)


def _left_outside(session: Session, recipe: Recipe, sample: Sample, proved: Proved) -> str | None:
    subject = session.subject
    text = left_outside(proved, recipe, subject.table) if subject.info.runtime else None
    if text is None:
        return None
    # an operator that is refused at one place is kept whole at no other of that program
    (alone,) = session.alone(recipe.name, sample)
    return str(alone) if isinstance(alone, Failed) else left_outside(alone, recipe, subject.table)


def _is_taken(seen: Seen | Failed) -> bool:
    """Whether any of it is quantized, or could be by a row."""
    if isinstance(seen, Failed):
        return True
    return any(decision.row is not None for decision in seen.decisions) or any(m.holds for m in seen.met)


def _edge(session: Session, row: Row, recipe: Recipe, rule: Constraint) -> Check:
    accepted, refused = _sides(session, row, recipe, rule)
    sides = tuple(side for side in (accepted, refused) if side is not None)
    return Check(
        id=f"table/edge/{row.name}/{_slug(rule.text)}/{recipe.name}", subject=row.name,
        must=f"{rule.text}: what just fits is taken and right, what just does not is refused so",
        judge=lambda: _both_sides(session, row, recipe, rule, accepted, refused),
        trials=tuple(Trial(recipe.name, side) for side in sides) if len(sides) == 2 else (),
    )  # fmt: skip


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _sides(
    session: Session, row: Row, recipe: Recipe, rule: Constraint
) -> tuple[Sample | None, Sample | None]:
    """The nearest variations on both sides: one that this constraint alone refuses, and one like it."""
    nearest = session.refused(row, recipe, rule)
    accepted = session.accepted(row, recipe)
    alike = [s for s in accepted if nearest is not None and s.entry is nearest.entry]
    return next(iter(alike or accepted), None), nearest


def _both_sides(
    session: Session,
    row: Row,
    recipe: Recipe,
    rule: Constraint,
    accepted: Sample | None,
    refused: Sample | None,
) -> Verdict:
    if refused is None:
        return Skip("not reached: no variation of the catalogue is refused by it alone")
    if accepted is None:
        return Skip("not reached: no variation of the catalogue is accepted by the row")
    for side in (accepted, refused):
        found = varied(session, recipe, side, "table/edge")
        if found is not None:
            return found
    if recipe.kernel is Kernel.FLOAT:
        return None
    reason = next(met.refusals[0][1] for met in session.met(row, recipe, refused) if met.refusals)
    seen = session.seen(recipe, refused)
    assert not isinstance(seen, Failed)
    # where several rows refuse, the reason of one of them is told
    reasons_there = [text for met in seen.met for _, text in met.refusals]
    told = any(text in decision.reason for decision in seen.decisions for text in reasons_there)
    taken = any(decision.row not in (None, row.name) for decision in seen.decisions)
    if told or taken:
        return None
    reasons = "; ".join(d.reason for d in seen.decisions)
    return Fault(
        message=f"refused because {reason}, which no decision tells: {reasons}", sample=refused,
        recipe=recipe.name,
    )  # fmt: skip


def _undeclared(session: Session, recipe: Recipe) -> Iterator[Check]:
    for sample in session.undeclared[recipe.kernel]:
        name = sample.name.partition("/")[0]
        yield Check(
            id=f"table/undeclared/{name}/{recipe.name}", subject=name,
            must="no row has it: it stays float with a reason, and the program is right",
            judge=partial(varied, session, recipe, sample, "table/undeclared"),
            trials=(Trial(recipe.name, sample),),
        )  # fmt: skip
