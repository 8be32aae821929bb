"""The records of ``trace``: a model's graph after each stage, with the decision on each node."""

from __future__ import annotations

import enum

import attrs

from quanthost.values import checks

__all__ = ["Mark", "Trace", "TracedGraph", "TracedNode"]

_TEXT = checks.kind(str)
_TEXTS = checks.each(_TEXT)


class Mark(enum.Enum):
    """What kind of node it is at its stage.

    ``CONVERSION`` quantizes or dequantizes, ``OBSERVER`` observes a range. In edge graphs, ``DELEGATED`` lies
    in a partition, ``DELEGATE`` calls one, and ``OUTSIDE`` runs in the runtime's own kernels.
    """

    INPUT = "input"
    CONSTANT = "constant"
    QUANTIZED = "quantized"
    FLOAT = "float"
    FOLDED = "folded"
    CONVERSION = "conversion"
    OBSERVER = "observer"
    DELEGATED = "delegated"
    DELEGATE = "delegate"
    OUTSIDE = "outside"
    OUTPUT = "output"


@attrs.frozen(kw_only=True)
class TracedNode:
    """One node: ``line`` is its stable text, ``tensor`` its dtype and sizes, ``reason`` the decision's.

    ``inputs`` are the names of the nodes that it reads, ``origin`` is the captured node that it comes from.
    """

    name: str = attrs.field(validator=_TEXT)
    operator: str = attrs.field(validator=_TEXT)
    mark: Mark = attrs.field(validator=checks.kind(Mark))
    line: str = attrs.field(validator=_TEXT)
    inputs: tuple[str, ...] = attrs.field(default=(), converter=checks.as_tuple, validator=_TEXTS)
    tensor: str = attrs.field(default="", validator=_TEXT)
    reason: str = attrs.field(default="", validator=_TEXT)
    origin: str | None = attrs.field(default=None, validator=checks.kind(str, optional=True))
    partition: str | None = attrs.field(default=None, validator=checks.kind(str, optional=True))


@attrs.frozen(kw_only=True)
class TracedGraph:
    """The graph after one stage."""

    stage: str = attrs.field(validator=_TEXT)
    nodes: tuple[TracedNode, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.kind(TracedNode))
    )


@attrs.frozen(kw_only=True)
class Trace:
    """The graphs in the order of the stages; ``note`` says why later ones are missing."""

    model: str = attrs.field(validator=_TEXT)
    backends: tuple[str, ...] = attrs.field(converter=checks.as_tuple, validator=_TEXTS)
    recipe: str = attrs.field(validator=_TEXT)
    graphs: tuple[TracedGraph, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.kind(TracedGraph))
    )
    note: str = attrs.field(default="", validator=_TEXT)
