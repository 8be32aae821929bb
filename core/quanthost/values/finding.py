"""Findings: where quantization loses nearly all of a part of the results, or gains nothing."""

from __future__ import annotations

import enum

import attrs

from quanthost.values import checks

__all__ = ["Finding", "FindingKind"]

_TEXT = checks.kind(str, optional=True)


class FindingKind(enum.Enum):
    """What was found."""

    LOST_OUTPUT = "lost output"
    LOST_PART = "lost part of an output"
    LOST_BRANCH = "lost branch"
    NOTHING_QUANTIZED = "nothing quantized"
    LARGER = "larger than the float weights"
    LARGE_IN_FLOAT = "large weights in float"
    UNPACKED_WEIGHTS = "weights converted in each run"


@attrs.frozen(kw_only=True)
class Finding:
    """A loss, or a gain that is missing: what was ``seen``, and what to do about it.

    ``node`` and ``where`` are the captured node and its line in the model, ``None`` if it is no single one.
    """

    kind: FindingKind = attrs.field(validator=checks.kind(FindingKind))
    seen: str
    remedy: str
    node: str | None = attrs.field(default=None, validator=_TEXT)
    where: str | None = attrs.field(default=None, validator=_TEXT)

    def __str__(self) -> str:
        place = "" if self.where is None else f" ({self.where})"
        return f"{self.seen}{place}; {self.remedy}"
