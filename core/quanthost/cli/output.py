"""Writes the one result of a command to stdout, and everything else to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["chatter_on_stderr", "write", "write_json", "write_text"]


def write(*renderables: RenderableType) -> None:
    """Write to stdout: styled on a terminal; plain in a pipe, 80 columns wide unless ``COLUMNS`` is set."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    # table cells are padded to the width of their column
    _send("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def write_text(text: str) -> None:
    """Write lines to stdout without wrapping them."""
    _send(text + "\n")


def write_json(document: Any) -> None:
    """Write one JSON document to stdout; it must not hold NaN or infinity."""
    import json

    _send(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _send(text: str) -> None:
    sys.stdout.write(text)
    # at once, so that a closed pipe raises here and not when the interpreter exits
    sys.stdout.flush()


@contextlib.contextmanager
def chatter_on_stderr() -> Iterator[None]:
    """While entered, what the user's code and the toolchain print, from Python or C++, goes to stderr."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if os.name == "posix":
            import ctypes

            # native code may have left text in the buffer of the C library
            ctypes.CDLL(None).fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)
