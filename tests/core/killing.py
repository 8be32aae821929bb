"""Processes that are forked from one that has everything loaded, and killed by SIGKILL wherever it hurts."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable

# what changes a folder: each is a place to die at
_STEPS = frozenset({"tempfile.mkstemp", "os.chmod", "os.rename", "os.remove", "os.utime"})


def forked(work: Callable[[], None]) -> int:
    """The process id of a child that does the work, and ends with 0 where that went well."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def ended(child: int) -> int:
    """The exit code of a child, negative the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dies_at_step(work: Callable[[], None], step: int) -> int:
    """A child that kills itself before the file system is changed for that time, from 1."""
    left = [step]

    def hook(event: str, _: object) -> None:
        if event in _STEPS:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def dying() -> None:
        sys.addaudithook(hook)
        work()

    return forked(dying)


def dies_in(work: Callable[[], None], seconds: float) -> int:
    """A child that is killed from outside after that time, wherever it is."""
    child = forked(work)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return child


def dies_somewhere(work: Callable[[], None], where: random.Random, *, steps: int, seconds: float) -> int:
    """One of the two, at random."""
    if where.random() < 0.5:
        return dies_at_step(work, where.randint(1, steps))
    return dies_in(work, where.uniform(0, seconds))
