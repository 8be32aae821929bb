"""Which cases the largest tests take: all in ``make test-whole``, a fixed part of them in ``make test``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["WHOLE", "part"]

WHOLE = "QUANTHOST_TEST_WHOLE" in os.environ
_Case = TypeVar("_Case")


def part(cases: Sequence[_Case], every: int) -> list[_Case]:
    """All cases in the whole run, else the first of each ``every``."""
    return list(cases if WHOLE else cases[::every])
