"""Placement by cost: an operator that int8 does not serve between float neighbours stays float."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from torch import fx

from quanthost.values import Gain

__all__ = ["Candidate", "prune"]


@attrs.frozen(kw_only=True, eq=False)
class Candidate:
    """A match as the cost rule sees it: its operators, activations that are no constants, and its gain."""

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    gain: Gain
    keeps_parameters: bool

    @property
    def output(self) -> fx.Node:
        return self.nodes[-1]


def prune(candidates: Iterable[Candidate]) -> dict[Candidate, str]:
    """Candidates that are better left float, each with the reason.

    A ``FOLLOWS`` candidate stays integer while more of its tensors are integer on their other side than
    float; one that only moves data stays on a tie, for it loses nothing. Graph inputs count for neither.
    All candidates are judged at once, then again without those that fell, until none falls: the answer
    does not depend on the order of the graph.
    """
    alive = list(candidates)
    fallen: dict[Candidate, str] = {}
    while True:
        covered = {node for candidate in alive for node in candidate.nodes}
        losers = {c: reason for c in alive if (reason := _reason(c, covered)) is not None}
        if not losers:
            return fallen
        fallen.update(losers)
        alive = [c for c in alive if c not in losers]


def _reason(candidate: Candidate, covered: set[fx.Node]) -> str | None:
    if candidate.gain is Gain.DRIVES:
        return None
    inputs = [node for node in candidate.inputs if node.op != "placeholder"]
    integer = sum(node in covered for node in inputs)
    outside = len(inputs) - integer
    if any(user in covered for user in candidate.output.users):
        integer += 1
    else:
        outside += 1
    if integer > outside or (integer == outside and candidate.keeps_parameters and integer):
        return None
    return (
        f"int8 brings nothing here: {outside} of its tensors are float on their other side, {integer} integer"
    )
