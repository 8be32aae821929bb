"""Names the samples that were running if a kernel or delegate ends the whole process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from types import TracebackType

__all__ = ["CrashNotes"]

# a separate process outlives this one; an empty line says that nothing is running
_WATCHER = """
import sys
last = ""
for last in sys.stdin:
    pass
if last.strip():
    sys.stderr.write(
        "error: the process was ended by what it ran: " + last.strip() + chr(10) +
        "  needed: a program that runs, or an error" + chr(10) +
        "  to do:  run these one at a time with --only, and refuse what ends the process" + chr(10)
    )
"""


class CrashNotes:
    """While entered, a second process waits: if this one ends at once, it prints the last note."""

    def __init__(self) -> None:
        self._watcher: subprocess.Popen[str] | None = None

    def __enter__(self) -> CrashNotes:
        self._watcher = subprocess.Popen(
            [sys.executable, "-S", "-c", _WATCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("")
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.stdin.close()
            self._watcher.wait()

    @contextlib.contextmanager
    def note(self, recipe: str, samples: Iterable[str]) -> Iterator[None]:
        """While entered, these samples of the recipe run."""
        self._write(f"{', '.join(samples)} ({recipe})")
        try:
            yield
        finally:
            self._write("")

    def _write(self, line: str) -> None:
        if self._watcher is None or self._watcher.stdin is None:
            return
        try:
            self._watcher.stdin.write(f"{line}\n")
            self._watcher.stdin.flush()
        # if the watcher was ended, the run goes on without notes
        except OSError:
            self._watcher = None
