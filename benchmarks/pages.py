"""Tables and texts of the pages that are written from stored results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["table", "without_folders"]

_FOLDERS = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown; a bar in a cell is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def without_folders(text: str) -> str:
    """A text with the names of files for their paths on this machine."""
    return _FOLDERS.sub("", text)
