"""Results that are kept: a file of rows, one a subject, each replaced by a newer run of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import incumbent

__all__ = ["keep", "load"]


def load(path: Path) -> dict[str, Any]:
    """What earlier runs kept; no rows where there was none."""
    held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": []}
    return held


def keep(path: Path, row: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Put a row in its place, with the machine and versions of this run; all that is kept then."""
    rows = [*(each for each in load(path)["rows"] if each["name"] != row["name"]), row]
    rows.sort(key=lambda each: order.index(each["name"]))
    held = {**incumbent.provenance(), "rows": rows}
    path.write_text(json.dumps(held, indent=1) + "\n")
    return held
