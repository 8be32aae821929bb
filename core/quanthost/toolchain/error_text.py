"""The part of the toolchain's error messages that users can read: without dumps of graphs."""

from __future__ import annotations

import re

__all__ = ["chain_text", "first_paragraph", "on_one_line"]

_MOST = 300
_END = re.compile(r"\n\s*\n|\nHere is the node|\ngraph\(\):|\s*For more information")


def on_one_line(text: str) -> str:
    """The text on one line, shortened to 300 characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _MOST else f"{flat[:_MOST]} …"


def first_paragraph(error: BaseException) -> str:
    """What an error says first, or its type if it says nothing."""
    return on_one_line(_END.split(str(error).strip())[0]) or type(error).__name__


def chain_text(error: BaseException) -> str:
    """What an error says, and the first error in its chain, which is closest to the graph."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    return "; ".join(dict.fromkeys(map(first_paragraph, (error, first))))
