"""Decisions as text: counts, a table of groups with a common reason, or a list of all nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from quanthost.report.columns import Cell, columns
from quanthost.values import Cause, Decision, Verdict

__all__ = ["Group", "group_decisions", "headlines", "listing", "short_operator", "summary"]

_CAUSES = {
    Cause.ROW: "a row",
    Cause.CONSTRAINT: "a row's constraint",
    Cause.NO_ROW: "no row",
    Cause.RECIPE: "the recipe",
    Cause.OVERRIDE: "an override",
    Cause.REFUSAL: "refused",
    Cause.COST: "no gain",
    Cause.CONSTANT: "constant",
    Cause.FUSED: "fused",
}
_ORDER = tuple(Verdict)
# operators that the line of several names
_FOLDED_SHOWN, _SHOWN = 3, 12
# of more operators without a row, one line is enough
_MOST_WITHOUT_ROW = 5
_STYLES = {Verdict.QUANTIZED: "green", Verdict.FLOAT: "yellow", Verdict.FOLDED: "dim"}


@attrs.frozen(kw_only=True)
class Group:
    """Nodes that share verdict, cause, row and placement, in graph order.

    They have one operator, unless they are folded, or are some of many without a row, as a recipe for a few
    operators leaves them in float.
    """

    operator: str
    verdict: Verdict
    cause: Cause
    row: str | None
    delegated: bool | None
    placement: str | None
    members: tuple[Decision, ...]

    @property
    def count(self) -> int:
        return len(self.members)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The distinct reasons, in order of appearance."""
        return tuple(dict.fromkeys(decision.reason for decision in self.members))

    @property
    def partitions(self) -> tuple[str, ...]:
        """The delegated pieces that contain a node of the group, in order of appearance."""
        names = (decision.partition for decision in self.members)
        return tuple(dict.fromkeys(name for name in names if name is not None))


def group_decisions(decisions: Iterable[Decision]) -> tuple[Group, ...]:
    """Group decisions; sorted by verdict, then the largest group first, then in graph order."""
    decisions = tuple(decisions)
    together = len({each.operator for each in decisions if each.cause is Cause.NO_ROW}) > _MOST_WITHOUT_ROW
    by_key: dict[tuple[object, ...], list[Decision]] = {}
    for decision in decisions:
        by_key.setdefault(_key(decision, together), []).append(decision)
    groups = [
        Group(
            operator=_operators(members), verdict=first.verdict, cause=first.cause, row=first.row,
            delegated=first.delegated, placement=first.placement, members=tuple(members),
        )
        for members in by_key.values()
        for first in members[:1]
    ]  # fmt: skip
    return tuple(sorted(groups, key=lambda group: (_ORDER.index(group.verdict), -group.count)))


def _key(decision: Decision, together: bool) -> tuple[object, ...]:
    """Equal for the decisions of a group; ``together``: also for all operators that have no row."""
    d = decision
    if d.verdict is Verdict.FOLDED or (together and d.cause is Cause.NO_ROW):
        return d.verdict, d.cause, d.delegated
    return d.operator, d.verdict, d.cause, d.row, d.delegated, d.placement


def _operators(members: Sequence[Decision]) -> str:
    """The operator of all members, or the most frequent ones of several."""
    counts = Counter(decision.operator for decision in members)
    if len(counts) == 1:
        return members[0].operator
    limit = _FOLDED_SHOWN if members[0].verdict is Verdict.FOLDED else _SHOWN
    names = [short_operator(name) for name, _ in counts.most_common(limit)]
    return ", ".join(names) + (f" and {len(counts) - limit} more" if len(counts) > limit else "")


def headlines(decisions: Sequence[Decision]) -> tuple[str, ...]:
    """The numbers of nodes by verdict, the causes of nodes in float, and the number of delegated nodes."""
    verdicts = Counter(decision.verdict for decision in decisions)
    lines = [f"{_nodes(len(decisions))}: {_counts((v.value, verdicts[v]) for v in _ORDER)}"]
    causes = Counter(decision.cause for decision in decisions if decision.verdict is Verdict.FLOAT)
    if causes:
        lines.append(f"float because of: {_counts((_CAUSES[c], causes[c]) for c in Cause)}")
    if any(decision.delegated is not None for decision in decisions):
        inside = [decision for decision in decisions if decision.delegated]
        pieces = len({decision.partition for decision in inside})
        lines.append(f"delegated: {_nodes(len(inside))} in {pieces} piece{'s' * (pieces != 1)}")
    return tuple(lines)


def summary(decisions: Sequence[Decision]) -> Lines:
    """The headlines and a table of the groups; fits on a screen for a network of some hundred nodes."""
    groups = group_decisions(decisions)
    lowered = any(group.delegated is not None for group in groups)
    headers = ["operator", "nodes", "verdict", *(["delegated"] if lowered else []), "why"]
    rows = (_group_row(group, lowered) for group in groups)
    table = columns(headers, rows, numeric=["nodes"], whole=["verdict"])
    return Lines(*map(Text, headlines(decisions)), Text(), table)


def listing(decisions: Iterable[Decision]) -> Table:
    """One entry per node, in graph order: node and module, operator, verdict, piece and all reasons."""
    return columns(
        ["node", "operator", "verdict", "delegated", "why"], map(_decision_row, decisions), whole=["verdict"]
    )


def _group_row(group: Group, lowered: bool) -> list[Cell]:
    where = [_where(group.members[0], group.partitions)] if lowered else []
    return [short_operator(group.operator), str(group.count), _verdict(group.verdict), *where, _why(group)]


def _decision_row(decision: Decision) -> list[Cell]:
    module = f"\n{decision.module}" if decision.module else ""
    placement = f"; {decision.placement}" if decision.placement is not None else ""
    return [
        Text.assemble(decision.node, (module, "dim")), short_operator(decision.operator),
        _verdict(decision.verdict),
        _where(decision, () if decision.partition is None else (decision.partition,)),
        decision.reason + placement,
    ]  # fmt: skip


def short_operator(name: str) -> str:
    """The name without the common namespace and overload: ``aten.conv2d.default`` → ``conv2d``."""
    return name.removeprefix("aten.").removesuffix(".default")


def _verdict(verdict: Verdict) -> Text:
    return Text(verdict.value, style=_STYLES[verdict])


def _where(decision: Decision, partitions: Sequence[str]) -> str:
    """Where the node runs; empty if it is folded or not lowered yet."""
    if decision.delegated:
        return partitions[0] if len(partitions) == 1 else f"{len(partitions)} pieces"
    return "" if decision.delegated is None or decision.verdict is Verdict.FOLDED else "no"


def _why(group: Group) -> str:
    if group.cause is Cause.NO_ROW and len({member.operator for member in group.members}) > 1:
        return "the backend has no row for them with this recipe"
    first, *others = group.reasons
    more = f" (and {len(others)} more reasons)" if len(others) > 1 else ""
    return first + (f" (or: {others[0]})" if len(others) == 1 else more)


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count != 1)}"


def _counts(pairs: Iterable[tuple[str, int]]) -> str:
    """``"8 quantized, 3 float"``, without zeros."""
    return ", ".join(f"{count} {name}" for name, count in pairs if count) or "none"
