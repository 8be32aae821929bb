"""Times of calls, and the machine that they hold for."""

from __future__ import annotations

import os
import time

from quanthost.stages.lowering.timing import cores, machine, seconds_in_turns, seconds_of


def test_the_fastest_call_counts() -> None:
    """One slow call among fast ones does not show."""
    calls = iter([0.05, *[0.001] * 10_000])

    assert 0.001 <= seconds_of(lambda: time.sleep(next(calls)), budget=0.01) < 0.05


def test_calls_take_turns() -> None:
    """Each is called six times at least, and neither goes first twice in a row."""
    order: list[str] = []
    seconds = seconds_in_turns([lambda: order.append("a"), lambda: order.append("b")], budget=0.0)

    assert len(seconds) == 2
    assert order == ["a", "a", "b", "b"] * 6


def test_the_machine_has_a_name() -> None:
    """Processor, cores of this process, and system."""
    assert cores() == len(os.sched_getaffinity(0))
    assert f", {cores()} cores, " in machine()
