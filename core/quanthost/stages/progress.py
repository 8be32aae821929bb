"""What the stages tell of their progress; faces decide how to show it."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Receives the name of each stage and the count of calibration batches."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Entered while a stage runs."""
        ...

    def batch(self, done: int, total: int | None) -> None:
        """After each calibration batch; ``total`` is ``None`` where the data has no length."""
        ...


class _Silent:
    def stage(self, name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def batch(self, done: int, total: int | None) -> None:
        return


def silent() -> Progress:
    """A progress that shows nothing."""
    return _Silent()
