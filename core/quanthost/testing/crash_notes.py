"""Says what was being run where a kernel or delegate ends the whole process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from types import TracebackType

__all__ = ["LastWords"]

# a process of its own outlives this one; an empty line says that nothing is being run
_WATCHER = """
import sys
last = ""
for last in sys.stdin:
    pass
if last.strip():
    sys.stderr.write(
        "error: the process was ended by what it ran: " + last.strip() + chr(10) +
        "  needed: a program that runs, or an error" + chr(10) +
        "  to do:  run these one at a time with --only, and refuse what ends it" + chr(10)
    )
"""


class LastWords:
    """While entered, what was said last is told on standard error if this process ends at once."""

    def __init__(self) -> None:
        self._watcher: subprocess.Popen[str] | None = None

    def __enter__(self) -> LastWords:
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
        self.say()
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.stdin.close()
            self._watcher.wait()

    def say(self, recipe: str = "", samples: Iterable[str] = ()) -> None:
        """Samples of a recipe that are run next; nothing, once they have run."""
        if self._watcher is None or self._watcher.stdin is None:
            return
        try:
            self._watcher.stdin.write(f"{', '.join(samples)} ({recipe})\n" if recipe else "\n")
            self._watcher.stdin.flush()
        # a watcher that was ended takes nothing with it
        except OSError:
            self._watcher = None
