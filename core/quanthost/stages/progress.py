"""``Progress``: what the stages report while they run; the command line decides how to show it."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Receives the name of each stage, the count of calibration batches, and notes."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Entered while a stage runs."""
        ...

    def batch(self, done: int, total: int | None) -> None:
        """After each calibration batch; ``total`` is ``None`` if the data has no length."""
        ...

    def note(self, text: str) -> None:
        """A remark of a stage, such as that its result comes from the cache."""
        ...


class _Silent:
    def stage(self, name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def batch(self, done: int, total: int | None) -> None:
        return

    def note(self, text: str) -> None:
        return


def silent() -> Progress:
    """A progress that shows nothing."""
    return _Silent()
