"""Matches (where a support row holds) and decisions (the verdict and reason for each node)."""

from __future__ import annotations

import enum

import attrs

from quanthost.values import checks
from quanthost.values.qspec import AnyQSpec, DerivedQSpec, FixedQSpec, QSpec, SharedQSpec
from quanthost.values.recipe import Kernel, Role

__all__ = ["Cause", "Decision", "Gain", "Match", "QSpecChoice", "Refusal", "Verdict"]

_TEXT = checks.kind(str, optional=True)
_SPEC = checks.kind(QSpec, FixedQSpec, DerivedQSpec, SharedQSpec)


class Verdict(enum.Enum):
    """What happened to a node of the captured graph."""

    QUANTIZED = "quantized"
    FLOAT = "float"
    FOLDED = "folded"


class Cause(enum.Enum):
    """What determined the verdict."""

    ROW = "row"
    CONSTRAINT = "constraint"
    NO_ROW = "no_row"
    RECIPE = "recipe"
    OVERRIDE = "override"
    REFUSAL = "refusal"
    COST = "cost"
    CONSTANT = "constant"
    FUSED = "fused"


class Gain(enum.Enum):
    """Whether integer arithmetic alone makes an operator faster.

    ``DRIVES``: it does, so that the operator is quantized wherever it stands (convolution, linear).
    ``FOLLOWS``: it does not. With placement by cost, such an operator is quantized only where its
    neighbours use all its tensors as integers; if it only moves one tensor, one side is enough.
    """

    DRIVES = "drives"
    FOLLOWS = "follows"


@attrs.frozen(kw_only=True)
class Match:
    """One place in a graph where a row's pattern and constraints hold for a kernel.

    ``nodes`` are the operators it covers; the last one computes the output. ``captures`` pairs each
    captured name with the name of the node that computes the tensor; a list operand (``cat``) has
    ``"inputs.0"``, ``"inputs.1"``, …. ``roles`` are the roles of captures that are not activations.
    ``shares`` are the captures (and ``"output"``) that must have the same quantization parameters.
    """

    backend: str = attrs.field(validator=checks.identifier())
    row: str = attrs.field(validator=checks.identifier())
    kernel: Kernel = attrs.field(validator=checks.kind(Kernel))
    nodes: tuple[str, ...] = attrs.field(converter=checks.as_tuple, validator=checks.each(checks.kind(str)))
    captures: tuple[tuple[str, str], ...] = attrs.field(
        default=(), converter=checks.as_pairs, validator=checks.each(checks.pair(checks.kind(str)))
    )
    roles: tuple[tuple[str, Role], ...] = attrs.field(
        default=(), converter=checks.as_pairs, validator=checks.each(checks.pair(checks.kind(Role)))
    )
    shares: tuple[str, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(str))
    )
    gain: Gain = attrs.field(default=Gain.FOLLOWS, validator=checks.kind(Gain))

    def __attrs_post_init__(self) -> None:
        if not self.nodes:
            checks.refuse(
                self, "nodes", "no node", needed="the nodes that it covers; the last computes the output",
                remedy="name them in graph order",
            )  # fmt: skip

    def role(self, capture: str) -> Role:
        """The role of a capture or of ``"output"``."""
        return dict(self.roles).get(capture.split(".")[0], Role.ACTIVATION)

    @property
    def output(self) -> str:
        """The name of the node that computes the match's result."""
        return self.nodes[-1]


@attrs.frozen(kw_only=True)
class QSpecChoice:
    """A result of ``quanthost_choose_qspecs``: a qspec for each captured tensor that is quantized.

    Other captures stay float. ``"output"`` is the result of the match.
    """

    qspecs: tuple[tuple[str, AnyQSpec], ...] = attrs.field(
        converter=checks.as_pairs, validator=checks.each(checks.pair(_SPEC))
    )

    def as_dict(self) -> dict[str, AnyQSpec]:
        return dict(self.qspecs)


@attrs.frozen(kw_only=True)
class Refusal:
    """A result of ``quanthost_choose_qspecs``: the match stays float, for a reason."""

    reason: str = attrs.field(validator=checks.kind(str))
    cause: Cause = attrs.field(default=Cause.REFUSAL, validator=checks.kind(Cause))


@attrs.frozen(kw_only=True)
class Decision:
    """The verdict on one call node of the captured graph, with its reason.

    ``delegated`` is ``None`` before lowering. Then it says whether the node runs in a delegate,
    ``partition`` says in which one (``"xnnpack_like/0"``), and ``placement`` gives the reason. ``in_program``
    is ``None`` before lowering; then it says whether any work of the node is left in the program. In an
    integer or reference representation, ``form`` describes the node's form, and ``is_island`` is true if it
    stays in float; ``form`` then ends with the reason.
    """

    node: str = attrs.field(validator=checks.kind(str))
    operator: str = attrs.field(validator=checks.kind(str))
    verdict: Verdict = attrs.field(validator=checks.kind(Verdict))
    cause: Cause = attrs.field(validator=checks.kind(Cause))
    reason: str = attrs.field(validator=checks.kind(str))
    module: str | None = attrs.field(default=None, validator=_TEXT)
    source: str | None = attrs.field(default=None, validator=_TEXT)
    backend: str | None = attrs.field(default=None, validator=_TEXT)
    recipe: str | None = attrs.field(default=None, validator=_TEXT)
    row: str | None = attrs.field(default=None, validator=_TEXT)
    delegated: bool | None = attrs.field(default=None, validator=checks.kind(bool, optional=True))
    partition: str | None = attrs.field(default=None, validator=_TEXT)
    placement: str | None = attrs.field(default=None, validator=_TEXT)
    form: str | None = attrs.field(default=None, validator=_TEXT)
    is_island: bool = attrs.field(default=False, validator=checks.kind(bool))
    in_program: bool | None = attrs.field(default=None, validator=checks.kind(bool, optional=True))
