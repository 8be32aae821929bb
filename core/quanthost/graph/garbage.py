"""The garbage collector while a stage makes graphs: it looks at what the stage makes, and at nothing else."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["collecting_rarely"]

# objects made before the collector looks at the young ones again; Python's own 700 are a graph's first nodes
_YOUNG = 20_000


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """While entered, what was alive before is not searched for garbage, and what is new less often.

    Beside torch and ExecuTorch, half a million objects live as long as the process, and each full
    collection walks them all; the graphs of a large network cause dozens. A caller that has frozen objects
    itself keeps them, and a collector that is off stays off.
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
