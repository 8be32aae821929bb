"""Which toolchain the stage at work uses, the fast one or upstream's own, and its notes on that."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

import attrs

from quanthost.errors import RequestError
from quanthost.values import Toolchain, ToolchainRecord

__all__ = ["VARIABLE", "Way", "current", "note", "toolchain_of", "using"]

VARIABLE = "QUANTHOST_TOOLCHAIN"


@attrs.define
class Way:
    """The toolchain of one stage. ``notes`` say what is not as expected, each once and in order."""

    toolchain: Toolchain
    _notes: dict[str, None] = attrs.field(factory=dict)

    def note(self, text: str) -> None:
        self._notes[text] = None

    def record(self) -> ToolchainRecord:
        return ToolchainRecord(way=self.toolchain, notes=tuple(self._notes))


# of this thread: what a stage replaces, it replaces for its own thread alone
_WAY: ContextVar[Way | None] = ContextVar("quanthost_toolchain", default=None)


def current() -> Toolchain:
    """The toolchain of the stage at work; outside of stages the fast one, if the environment allows it."""
    way = _WAY.get()
    if way is not None:
        return way.toolchain
    return Toolchain.FAST if _from_environment() is None else Toolchain.UPSTREAM


def note(text: str) -> None:
    """Tell the user of the stage at work, and the record of its program, why something is not fast."""
    way = _WAY.get()
    if way is not None:
        way.note(text)


@contextlib.contextmanager
def using(toolchain: Toolchain, notes: Iterable[str] = ()) -> Iterator[Way]:
    """While entered, this thread is in a stage that uses a toolchain; ``QUANTHOST_TOOLCHAIN=upstream`` wins.

    ``notes`` are those of the stages before.

    Raises:
        RequestError: ``QUANTHOST_TOOLCHAIN`` names no toolchain.
    """
    forced = _from_environment()
    way = Way(toolchain if forced is None else Toolchain.UPSTREAM)
    for text in (*notes, *([] if forced is None else [forced])):
        way.note(text)
    token = _WAY.set(way)
    try:
        yield way
    finally:
        _WAY.reset(token)


def toolchain_of(value: Toolchain | str, argument: str, stage: str) -> Toolchain:
    """The toolchain that a user names.

    Raises:
        RequestError: there is none of that name.
    """
    try:
        return Toolchain(value)
    except ValueError:
        raise _unknown(f"{argument}={value!r}", value, stage) from None


def _unknown(seen: str, value: Toolchain | str, stage: str | None) -> RequestError:
    return RequestError(
        seen, needed="one of " + ", ".join(each.value for each in Toolchain), stage=stage, value=value,
        remedy="choose one of these",
    )  # fmt: skip


def _from_environment() -> str | None:
    """The reason for upstream's toolchain that the environment gives, ``None`` if it gives none."""
    value = os.environ.get(VARIABLE, "")
    if value in ("", Toolchain.FAST.value):
        return None
    if value == Toolchain.UPSTREAM.value:
        return f"{VARIABLE}={value}"
    raise _unknown(f"{VARIABLE}={value}", value, None)
