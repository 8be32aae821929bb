"""Placement by cost: no tensor is quantized only for operators that gain nothing from integers."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from torch import fx

from quanthost.values import DType, Gain

__all__ = ["Candidate", "prune"]


@attrs.frozen(kw_only=True, eq=False)
class Candidate:
    """A match as the cost rule sees it: its operators, activations that are no constants, and its gain.

    ``keeps_parameters`` is set for operators that only move data, which lose nothing in integers.
    ``has_fixed_range`` is set for a bounded function, whose range needs no calibration. ``dtype`` is that
    of its integers.
    """

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    gain: Gain
    keeps_parameters: bool
    has_fixed_range: bool = False
    dtype: DType = DType.INT8

    @property
    def output(self) -> fx.Node:
        return self.nodes[-1]

    @property
    def tensors(self) -> tuple[fx.Node, ...]:
        return (*self.inputs, self.output)


def prune(candidates: Iterable[Candidate]) -> dict[Candidate, str]:
    """The candidates that are better left in float, each with the reason.

    A tensor that a ``DRIVES`` candidate reads or writes is anchored: it is quantized in any case. A
    ``FOLLOWS`` candidate stays integer if all its tensors are anchored, since it then saves conversions
    and adds no rounding. A candidate that moves a single tensor stays integer if either side is anchored,
    and anchors the other side. A gate is a bounded function of an anchored tensor; its result is anchored
    if all its readers stay integer, since the gated tensor then needs no conversion. Anchors are only
    added and gates only removed, so that the result does not depend on the order of the graph.
    """
    listed = list(candidates)
    anchored = {t for c in listed if c.gain is Gain.DRIVES for t in c.tensors}
    movers = [c for c in listed if c.gain is Gain.FOLLOWS and _moves_one(c)]
    while True:
        reached = [c for c in movers if not anchored.isdisjoint(c.tensors)]
        grown = anchored.union(*(c.tensors for c in reached))
        if len(grown) == len(anchored):
            break
        anchored = grown
    anchored |= _gated(listed, anchored)
    return {c: reason for c in listed if (reason := _reason(c, anchored)) is not None}


def _moves_one(candidate: Candidate) -> bool:
    return candidate.keeps_parameters and len(candidate.inputs) == 1


def _gated(candidates: list[Candidate], anchored: set[fx.Node]) -> set[fx.Node]:
    """Results of gates whose readers all stay integer with them."""
    gated = {c.output for c in candidates if c.has_fixed_range and anchored.issuperset(c.inputs)}
    while True:
        both = anchored | gated
        stays = {node for c in candidates if _reason(c, both) is None for node in c.nodes}
        left = {result for result in gated if result.users and stays.issuperset(result.users)}
        if left == gated:
            return gated
        gated = left


def _reason(candidate: Candidate, anchored: set[fx.Node]) -> str | None:
    if candidate.gain is Gain.DRIVES:
        return None
    loose = [node.name for node in dict.fromkeys(candidate.tensors) if node not in anchored]
    if not loose:
        return None
    dtype = candidate.dtype.value
    return f"left in float: no neighbouring operator uses {' or '.join(loose)} as {dtype}"
