"""An explanation as text: the verdict on each operator, and the rows that were tried, most relevant first."""

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


def explanation(result: Explanation) -> list[RenderableType]:
    """The parts to print, one operator after the other."""
    parts: list[RenderableType] = []
    for why in result.operators:
        parts += [*([Text()] if parts else []), *_operator(why, result.lowered)]
    if result.note:
        parts += [Text(), Text(result.note)]
    return parts


def _operator(why: Why, lowered: bool) -> list[RenderableType]:
    decision = why.decision
    place = ", ".join(part for part in (decision.module, decision.source) if part)
    head = Text.assemble((decision.node, "bold"), f"  {short_operator(decision.operator)}")
    head.append(f", {place}" if place else "")
    verdict: list[tuple[str, Cell]] = [("verdict", f"{decision.verdict.value}: {decision.reason}")]
    if decision.placement is not None:
        where = f"{decision.partition}: " if decision.partition else ""
        verdict.append(("program", f"{where}{decision.placement}"))
    parts: list[RenderableType] = [head, Padding(facts(verdict), (0, 0, 0, 2))]
    if not why.captured:
        parts.append(Text("  the graph that the backend annotates no longer contains it"))
    for search in why.captured:
        parts += _search(search, "captured graph")
    for search in why.edge:
        parts += _search(search, "edge graph")
    if lowered and not why.edge and why.captured:
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
    # if a row has the operator, the facts that other rows saw are left out
    detailed = all(attempt.outcome is not Outcome.TAKEN for attempt in search.attempts)
    rows: list[list[Cell]] = []
    shown: set[tuple[str, ...]] = set()
    for members in _group_equal(search.attempts):
        first = members[0]
        details = first.facts if detailed and first.nodes not in shown else ()
        shown.update([first.nodes] if first.facts else [])
        kernel = [first.kernel.value] if several else []
        rows.append([_outcome(first), *kernel, _obstacle(members)])
        if details:
            text = Text("seen: " + "; ".join(map(" ".join, details)), style="dim")
            rows.append(["", *[""] * several, text])
    headers = ["outcome", *(["kernel"] if several else []), "rows"]
    return columns(headers, rows, whole=headers[:-1])


def _group_equal(attempts: Iterable[RowAttempt]) -> list[list[RowAttempt]]:
    """Group attempts with the same outcome, the most relevant first."""
    groups: dict[tuple[object, ...], list[RowAttempt]] = {}
    for attempt in sorted(attempts, key=lambda attempt: _ORDER.index(attempt.outcome)):
        key = (attempt.kernel, attempt.outcome, attempt.nodes, attempt.found, attempt.expected)
        groups.setdefault(key, []).append(attempt)
    return list(groups.values())


def _outcome(attempt: RowAttempt) -> Text:
    return Text(attempt.outcome.value, style=_STYLES.get(attempt.outcome, ""))


def _obstacle(members: Sequence[RowAttempt]) -> Text:
    """The rows of a group, with the operators that they took or the reason that stopped them."""
    first = members[0]
    names = ", ".join(dict.fromkeys(attempt.row for attempt in members))
    place = ", ".join(first.nodes)
    text = place if first.outcome is Outcome.TAKEN else f"at {place}: {first.found}"
    needed = f"; needed: {first.expected}" if first.expected else ""
    return Text.assemble((names, "bold"), f"  {text}{needed}")
