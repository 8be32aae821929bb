"""A match that carries the qspecs of an existing quantizer's annotation."""

from __future__ import annotations

import attrs

from quanthost.values import Match, QSpecChoice, Refusal

__all__ = ["AnnotatedMatch"]


@attrs.frozen(kw_only=True)
class AnnotatedMatch(Match):
    """A match with the qspecs that the quantizer annotated, or the reason why no qspec can express them."""

    choice: QSpecChoice | Refusal
