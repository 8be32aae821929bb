"""The toolchain of the running stage, fast or upstream's own, and notes on why something is not fast."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

import attrs

from quanthost.values import Toolchain, ToolchainRecord
from quanthost.values.choices import choose

__all__ = ["VARIABLE", "ActiveToolchain", "current", "note", "using"]

VARIABLE = "QUANTHOST_TOOLCHAIN"


@attrs.define
class ActiveToolchain:
    """The toolchain of one stage, with its notes in order, each once."""

    toolchain: Toolchain
    _notes: dict[str, None] = attrs.field(factory=dict)

    def note(self, text: str) -> None:
        self._notes[text] = None

    def record(self) -> ToolchainRecord:
        return ToolchainRecord(way=self.toolchain, notes=tuple(self._notes))


# one for each thread: a stage replaces functions for its own thread only
_ACTIVE: ContextVar[ActiveToolchain | None] = ContextVar("quanthost_toolchain", default=None)


def current() -> Toolchain:
    """The toolchain of the running stage; outside of stages the fast one, if the environment allows it."""
    active = _ACTIVE.get()
    if active is not None:
        return active.toolchain
    return Toolchain.FAST if _from_environment() is None else Toolchain.UPSTREAM


def note(text: str) -> None:
    """Note why something is not fast, for the user of the running stage and the record of its program."""
    active = _ACTIVE.get()
    if active is not None:
        active.note(text)


@contextlib.contextmanager
def using(toolchain: Toolchain, notes: Iterable[str] = ()) -> Iterator[ActiveToolchain]:
    """Run a stage of this thread with a toolchain; ``QUANTHOST_TOOLCHAIN=upstream`` overrides it.

    ``notes`` are the notes of earlier stages.

    Raises:
        RequestError: ``QUANTHOST_TOOLCHAIN`` names no toolchain.
    """
    forced = _from_environment()
    active = ActiveToolchain(toolchain if forced is None else Toolchain.UPSTREAM)
    for text in (*notes, *([] if forced is None else [forced])):
        active.note(text)
    token = _ACTIVE.set(active)
    try:
        yield active
    finally:
        _ACTIVE.reset(token)


def _from_environment() -> str | None:
    """The environment's reason for upstream's toolchain, ``None`` if there is none."""
    value = os.environ.get(VARIABLE, "")
    if not value or choose(Toolchain, value, VARIABLE, where="environment") is Toolchain.FAST:
        return None
    return f"{VARIABLE}={value}"
