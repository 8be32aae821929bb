"""An explanation for a reader: the verdict on each operator, and the rows tried, most telling first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from quanthost.report.columns import Cell, columns, facts
from quanthost.report.decision_table import short_operator
from quanthost.values.explanation import Explanation, Outcome, RowAttempt, Search, Why

__all__ = ["explanation"]

_ORDER = (
    *(Outcome.TAKEN, Outcome.DROPPED, Outcome.CONSTRAINT, Outcome.CLOSED),
    *(Outcome.OUTDONE, Outcome.PATTERN, Outcome.KERNEL),
)
_STYLES = {Outcome.TAKEN: "green", Outcome.CONSTRAINT: "yellow", Outcome.DROPPED: "yellow"}


def explanation(found: Explanation) -> list[RenderableType]:
    """The parts to print, one operator after the other."""
    parts: list[RenderableType] = []
    for why in found.operators:
        parts += [*([Text()] if parts else []), *_operator(why, found)]
    if found.note:
        parts += [Text(), Text(found.note)]
    return parts


def _operator(why: Why, found: Explanation) -> list[RenderableType]:
    decision = why.decision
    place = ", ".join(part for part in (decision.module, decision.source) if part)
    head = Text.assemble((decision.node, "bold"), f"  {short_operator(decision.operator)}")
    head.append(f", {place}" if place else "")
    known: list[tuple[str, Cell]] = [("verdict", f"{decision.verdict.value}: {decision.reason}")]
    if decision.placement is not None:
        where = f"{decision.partition}: " if decision.partition else ""
        known.append(("program", f"{where}{decision.placement}"))
    parts: list[RenderableType] = [head, Padding(facts(known), (0, 0, 0, 2))]
    if not why.captured:
        parts.append(Text("  nothing of it is left in the graph that the backend annotates"))
    for search in why.captured:
        parts += _search(search, "captured graph")
    for search in why.edge:
        parts += _search(search, "edge graph")
    if found.lowered and not why.edge and why.captured:
        parts += [Text(), Text("  no partitioner saw it in the edge graph")]
    return parts


def _search(search: Search, graph: str) -> list[RenderableType]:
    by = search.backend if search.recipe is None else f"{search.backend}, {search.recipe}"
    short = short_operator(search.operator)
    head = Text.assemble("\n  ", (f"{graph}, {by}", "bold"), f": {search.node}")
    head.append("" if short == search.node else f" ({short})")
    if search.partition is not None:
        head.append(f", in partition {search.partition}")
    parts: list[RenderableType] = [head]
    if search.note:
        return [*parts, Text(f"  {search.note}")]
    if search.attempts:
        parts.append(Padding(_table(search), (0, 0, 0, 2)))
    more = " more" if search.attempts else ""
    parts.append(Text(f"  {search.others}{more} rows do not mention {short}"))
    return parts


def _table(search: Search) -> Table:
    several = len({attempt.kernel for attempt in search.attempts}) > 1
    # what refused the other rows of an operator that was taken is said, not proved
    detailed = all(attempt.outcome is not Outcome.TAKEN for attempt in search.attempts)
    rows: list[list[Cell]] = []
    told: set[tuple[str, ...]] = set()
    for members in _grouped(search.attempts):
        first = members[0]
        seen = first.facts if detailed and first.nodes not in told else ()
        told.update([first.nodes] if first.facts else [])
        kernel = [first.kernel.value] if several else []
        rows.append([_outcome(first), *kernel, _told(members)])
        if seen:
            rows.append(["", *[""] * several, Text("seen: " + "; ".join(map(" ".join, seen)), style="dim")])
    headers = ["outcome", *(["kernel"] if several else []), "rows"]
    return columns(headers, rows, whole=headers[:-1])


def _grouped(attempts: Iterable[RowAttempt]) -> list[list[RowAttempt]]:
    """Attempts that ended alike stand together, the most telling first."""
    groups: dict[tuple[object, ...], list[RowAttempt]] = {}
    for attempt in sorted(attempts, key=lambda attempt: _ORDER.index(attempt.outcome)):
        key = (attempt.kernel, attempt.outcome, attempt.nodes, attempt.found, attempt.expected)
        groups.setdefault(key, []).append(attempt)
    return list(groups.values())


def _outcome(attempt: RowAttempt) -> Text:
    return Text(attempt.outcome.value, style=_STYLES.get(attempt.outcome, ""))


def _told(members: Sequence[RowAttempt]) -> Text:
    """Which rows, and what became of them."""
    first = members[0]
    names = ", ".join(dict.fromkeys(attempt.row for attempt in members))
    place = ", ".join(first.nodes)
    text = place if first.outcome is Outcome.TAKEN else f"at {place}: {first.found}"
    needed = f"; needed: {first.expected}" if first.expected else ""
    return Text.assemble((names, "bold"), f"  {text}{needed}")
