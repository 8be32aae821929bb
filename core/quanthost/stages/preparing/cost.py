"""Placement by cost: no tensor is quantized only for operators that gain nothing from integers."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from torch import fx

from quanthost.values import Gain

__all__ = ["Candidate", "prune"]


@attrs.frozen(kw_only=True, eq=False)
class Candidate:
    """A match as the cost rule sees it: its operators, activations that are no constants, and its gain.

    ``keeps_parameters`` is true of what only moves data: integer or float, nothing is lost.
    ``has_fixed_range`` is true of a bounded function, whose result no calibration has to range.
    """

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    gain: Gain
    keeps_parameters: bool
    has_fixed_range: bool = False

    @property
    def output(self) -> fx.Node:
        return self.nodes[-1]

    @property
    def tensors(self) -> tuple[fx.Node, ...]:
        return (*self.inputs, self.output)


def prune(candidates: Iterable[Candidate]) -> dict[Candidate, str]:
    """Candidates that are better left float, each with the reason.

    A tensor is anchored where a ``DRIVES`` candidate makes or takes it: it is quantized in any case. A
    ``FOLLOWS`` candidate stays integer where all its tensors are anchored, since it then saves
    conversions and adds no rounding. One that moves a single tensor stays where either side is anchored,
    and passes the anchor on. A gate, which is a bounded function of an anchored tensor, anchors its result
    where all that reads it stays: the tensor that is gated then needs no conversion. Anchors only grow, and
    gates only fall, so the answer does not depend on the order of the graph.
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
    """Results of gates that are read by nothing but what stays integer with them."""
    gated = {c.output for c in candidates if c.has_fixed_range and anchored.issuperset(c.inputs)}
    while True:
        held = anchored | gated
        stays = {node for c in candidates if _reason(c, held) is None for node in c.nodes}
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
    return f"int8 brings nothing here: {', '.join(loose)} would be quantized for it alone"
