"""How long a call takes here, and on what machine that is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["machine", "seconds_of"]

_WARM_UP = 2
_AT_LEAST = 5


def seconds_of(call: Callable[[], Any], *, budget: float = 0.05) -> float:
    """Seconds of the fastest call, which other work on the machine disturbs least.

    Called until ``budget`` seconds are spent, and at least five times.
    """
    for _ in range(_WARM_UP):
        call()
    best, spent, count = float("inf"), 0.0, 0
    while count < _AT_LEAST or spent < budget:
        start = time.perf_counter()
        call()
        taken = time.perf_counter() - start
        best, spent, count = min(best, taken), spent + taken, count + 1
    return best


def machine() -> str:
    """The processor's name and how many of its cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {platform.system()}"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or platform.machine()
