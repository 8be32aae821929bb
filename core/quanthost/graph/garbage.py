"""Limits the garbage collector, while a stage builds graphs, to the objects that the stage creates."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["collecting_rarely"]

# new objects between two collections; with Python's own 700, the first nodes of a graph trigger one
_YOUNG = 20_000


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """While entered, the collector skips older objects, and searches new ones less often.

    With torch and ExecuTorch loaded, half a million objects live as long as the process. Each full
    collection walks them all, and the graphs of a large network cause dozens. Objects that the caller froze
    stay frozen, and a collector that is off stays off.
    """
    if not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(max(before[0], _YOUNG), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
