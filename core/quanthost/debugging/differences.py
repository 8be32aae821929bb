"""Compares two snapshots of decisions node by node, without loading torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from quanthost.errors import RequestError
from quanthost.values import AnyQSpec, CostTable, Decision, to_data
from quanthost.values.decision_snapshot import (
    Change,
    Differences,
    ModelDecisions,
    ModelDifferences,
    NodeDifferences,
    Snapshot,
)

__all__ = ["compare_decisions"]

# the source of a node and the numbers of partitions are not decisions
_FIELDS = (
    "operator",
    "verdict",
    "cause",
    "backend",
    "recipe",
    "row",
    "reason",
    "delegated",
    "placement",
    "form",
)
# set only for lowered programs
_LOWERED = ("delegated", "placement", "form")
_NONE = "none"


def compare_decisions(old: Snapshot, new: Snapshot) -> Differences:
    """Compare model by model, by name; two snapshots of one model each are compared whatever their names.

    Raises:
        RequestError: the two have no model in common.
    """
    before, after = ({model.name: model for model in side.models} for side in (old, new))
    if len(before) == len(after) == 1:
        after = dict(zip(before, after.values()))
    if not before.keys() & after.keys():
        raise RequestError(
            f"decisions on {', '.join(before) or 'no model'} and on {', '.join(after) or 'no model'}",
            needed="a model that both have", stage="diff", value=(old, new),
            remedy="make both with the same models",
        )  # fmt: skip
    names = dict.fromkeys((*before, *after))
    # a change of the request is reported once, not at each node
    requested = {("recipe", old.recipe, new.recipe)}
    requested.update(("backend", *pair) for pair in zip(old.backends, new.backends))
    models = tuple(_compare_model(name, before.get(name), after.get(name), requested) for name in names)
    return Differences(made_by=tuple(_request_changes(old, new)), models=models)


def _request_changes(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    for what in ("backends", "recipe", "overrides", "options", "placement"):
        values = getattr(old, what), getattr(new, what)
        if values[0] != values[1] and None not in values:
            yield Change(what=what, before=_plain(values[0]), after=_plain(values[1]))
    if old.costs != new.costs and None not in (old.placement, new.placement):
        yield Change(what="costs", before=_costs(old.costs), after=_costs(new.costs))
    installed = [
        {**{f"{p.name} ({p.distribution})": p.version for p in side.plugins}, **dict(side.versions)}
        for side in (old, new)
    ]
    yield from _changed_entries(installed[0], installed[1])


def _costs(costs: CostTable | None) -> str:
    return _NONE if costs is None else f"{len(costs.sites)} sites measured on {costs.machine}"


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join("=".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value) or _NONE
    return str(getattr(value, "value", value))


def _changed_entries(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for what in dict.fromkeys((*before, *after)):
        sides = before.get(what, _NONE), after.get(what, _NONE)
        if sides[0] != sides[1]:
            yield Change(what=what, before=sides[0], after=sides[1])


def _compare_model(
    name: str, old: ModelDecisions | None, new: ModelDecisions | None, requested: set[tuple[str, str, str]]
) -> ModelDifferences:
    if old is None or new is None:
        lone, which = (new, "new") if old is None else (old, "old")
        assert lone is not None
        return ModelDifferences(name=name, total=len(lone.decisions), only_in=which)
    both = (old, new)
    sides = [{d.node: d for d in side.decisions} for side in both]
    names = dict.fromkeys((*sides[0], *sides[1]))
    specs = [_specs(side) for side in both]
    nodes = []
    for node in names:
        before, after = sides[0].get(node), sides[1].get(node)
        decision = after or before
        assert decision is not None
        candidates = (*_node_changes(before, after), *_spec_changes(specs[0], specs[1], node))
        changes = tuple(c for c in candidates if (c.what, c.before, c.after) not in requested)
        if changes:
            nodes.append(NodeDifferences(node=node, operator=decision.operator, changes=changes))
    counts = [Counter(d.row for d in side.decisions if d.row is not None) for side in both]
    rows = sorted(row for row in counts[0] | counts[1] if counts[0][row] != counts[1][row])
    return ModelDifferences(
        name=name, total=len(names), nodes=tuple(nodes),
        rows=tuple((row, counts[0][row], counts[1][row]) for row in rows),
        note="" if old.digest == new.digest else "the model itself, or its weights, changed",
    )  # fmt: skip


def _node_changes(before: Decision | None, after: Decision | None) -> Iterator[Change]:
    if before is None or after is None:
        sides = ("absent" if side is None else "present" for side in (before, after))
        yield Change(what="node", before=next(sides), after=next(sides))
        return
    for what in _FIELDS:
        values = getattr(before, what), getattr(after, what)
        unknown = what in _LOWERED and None in values
        if values[0] != values[1] and not unknown:
            yield Change(what=what, before=_text(values[0]), after=_text(values[1]))


def _text(value: Any) -> str:
    return _NONE if value is None else str(getattr(value, "value", value))


def _specs(model: ModelDecisions) -> dict[str, dict[str, AnyQSpec]] | None:
    return None if model.qspecs is None else {each.node: dict(each.qspecs) for each in model.qspecs}


def _spec_changes(
    before: dict[str, dict[str, AnyQSpec]] | None, after: dict[str, dict[str, AnyQSpec]] | None, node: str
) -> Iterator[Change]:
    if before is None or after is None:
        return
    old, new = before.get(node, {}), after.get(node, {})
    for capture in dict.fromkeys((*old, *new)):
        if old.get(capture) != new.get(capture):
            sides = _spec_texts(old.get(capture), new.get(capture))
            yield Change(what=f"qspec of {capture}", before=sides[0], after=sides[1])


def _spec_texts(old: AnyQSpec | None, new: AnyQSpec | None) -> tuple[str, str]:
    """The differing fields of two specs of one class, or all fields if the classes differ."""
    sides = [{} if spec is None else dict(to_data(spec)) for spec in (old, new)]
    alike = type(old) is type(new)
    texts = []
    for spec, own, other in zip((old, new), sides, reversed(sides)):
        fields = [
            f"{name}={_field(value)}"
            for name, value in own.items()
            if (other.get(name) != value if alike else value is not None)
        ]
        texts.append("float" if spec is None else f"{type(spec).__name__}({', '.join(fields)})")
    return texts[0], texts[1]


def _field(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values() if part is not None)
    return str(value)
