"""Differences of two snapshots as text: versions and request, then rows, then nodes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from quanthost.report.columns import columns, facts
from quanthost.report.decision_table import short_operator
from quanthost.values.decision_snapshot import Change, Differences, ModelDifferences, NodeDifferences

__all__ = ["differences"]

_SHOWN = 6


def differences(comparison: Differences) -> list[RenderableType]:
    """The parts to print, one model after the other."""
    parts: list[RenderableType] = []
    if comparison.made_by:
        parts.append(facts((change.what, _arrow(change)) for change in comparison.made_by))
    for model in comparison.models:
        parts += [*([Text()] if parts else []), *_model(model)]
    return parts


def _model(model: ModelDifferences) -> list[RenderableType]:
    if model.only_in:
        return [Text.assemble((model.name, "bold"), f": only the {model.only_in} decisions have this model")]
    head = Text.assemble((model.name, "bold"), f": {len(model.nodes)} of {model.total} nodes differ")
    parts: list[RenderableType] = [head]
    if model.note:
        parts.append(Text(f"  {model.note}", style="yellow"))
    if model.rows:
        rows = ((row, str(before), str(after)) for row, before, after in model.rows)
        table = columns(["row", "nodes before", "after"], rows, numeric=["nodes before", "after"])
        parts.append(Padding(table, (0, 0, 0, 2)))
    for members in _group_equal(model.nodes):
        parts += [Text(), Padding(_heading(members), (0, 0, 0, 2))]
        parts.append(Padding(facts((c.what, _arrow(c)) for c in members[0].changes), (0, 0, 0, 4)))
    return parts


def _group_equal(nodes: Sequence[NodeDifferences]) -> list[list[NodeDifferences]]:
    """Group nodes that have the same operator and the same changes."""
    groups: dict[tuple[object, ...], list[NodeDifferences]] = {}
    for node in nodes:
        groups.setdefault((node.operator, node.changes), []).append(node)
    return list(groups.values())


def _heading(members: Sequence[NodeDifferences]) -> Text:
    names = ", ".join(node.node for node in members[:_SHOWN])
    more = f" and {len(members) - _SHOWN} more" if len(members) > _SHOWN else ""
    return Text.assemble((names + more, "bold"), f"  {short_operator(members[0].operator)}")


def _arrow(change: Change) -> str:
    return f"{change.before} → {change.after}"
