"""What a command writes: one result on stdout, everything else on stderr; files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quanthost.cli.exits import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["chatter_on_stderr", "refuse_existing", "write", "write_json", "write_text"]


def write(*renderables: RenderableType) -> None:
    """Show on stdout: styled on a terminal; plain in a pipe, 80 columns wide unless ``COLUMNS`` says else."""
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
    """Lines on stdout as they are; long ones are not wrapped."""
    _send(text + "\n")


def write_json(document: Any) -> None:
    """One JSON document on stdout; what is no finite number has to be ``None`` by now."""
    import json

    _send(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _send(text: str) -> None:
    sys.stdout.write(text)
    # now, while a reader that has gone away is still met by the command line and not by the interpreter
    sys.stdout.flush()


@contextlib.contextmanager
def chatter_on_stderr() -> Iterator[None]:
    """Send what the user's code and the toolchain print, from Python or C++, to stderr meanwhile."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if os.name == "posix":
            import ctypes

            # what native code has printed may still lie in the buffer of the C library
            ctypes.CDLL(None).fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)


def refuse_existing(*paths: Path, force: bool) -> None:
    """Refuse to replace a file without ``--force``, and to write into a folder that is not there.

    Raises:
        UsageError: a file exists, or its folder doesn't.
    """
    for path in paths:
        if path.is_dir() or (path.exists() and not force):
            raise UsageError(
                f"{path}, which exists" + (" and is a folder" if path.is_dir() else ""), value=path,
                needed="a path that is free", where="output",
                remedy="choose another path" + ("" if path.is_dir() else ", or replace it with --force"),
            )  # fmt: skip
        if not path.parent.is_dir():
            raise UsageError(
                f"{path} in a folder that does not exist", needed="an existing folder", where="output",
                remedy=f"make it first: mkdir -p {path.parent}", value=path,
            )  # fmt: skip
