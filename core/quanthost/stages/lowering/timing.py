"""Measures how long calls take on this machine, and describes the machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["cores", "machine", "seconds_in_turns", "seconds_of"]

_ROUNDS = 6


def seconds_of(call: Callable[[], Any], *, budget: float = 0.1) -> float:
    """Seconds of the fastest call: other work on the machine disturbs it least."""
    return seconds_in_turns([call], budget=budget)[0]


def seconds_in_turns(calls: Sequence[Callable[[], Any]], *, budget: float = 0.1) -> list[float]:
    """Seconds of the fastest call of each; they take turns, so that a change of the machine affects all.

    Each is called for ``budget`` seconds, and at least six times.
    """
    best = [float("inf")] * len(calls)
    for _ in range(_ROUNDS):
        for place, call in enumerate(calls):
            call()
            end = time.perf_counter() + budget / _ROUNDS
            while True:
                start = time.perf_counter()
                call()
                now = time.perf_counter()
                best[place] = min(best[place], now - start)
                if now >= end:
                    break
    return best


def machine() -> str:
    """The processor's name, and the number of cores that this process may use."""
    return f"{_processor()}, {cores()} cores, {platform.system()}"


def cores() -> int:
    """The number of cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return allowed or 1


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or platform.machine()
