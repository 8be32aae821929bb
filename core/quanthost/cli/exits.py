"""How the command line ends: exit codes, and errors as text or JSON."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from quanthost.errors import QuanthostError, RequestError

__all__ = ["TRACEBACK", "ExitCode", "Faults", "UsageError"]

TRACEBACK = "--traceback"


class ExitCode(enum.IntEnum):
    """What the process returns to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNEXPECTED = 3
    DIFFERENT = 4


class UsageError(RequestError):
    """What was typed, or stands in the configuration file, cannot be understood or done."""


# a named tuple: help is shown without attrs, which takes as long to import as typer
class Faults(NamedTuple):
    """How errors are shown: with a traceback where asked for, and on stdout too where JSON is expected."""

    traceback: bool
    as_json: bool

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Faults:
        """Read off the arguments as they are, since parsing them can fail too."""
        # where it takes a file, stdout is for people
        to_file = "check-backend" in arguments
        return cls(traceback=TRACEBACK in arguments, as_json="--json" in arguments and not to_file)

    def show(self, error: Exception) -> ExitCode:
        """Write the error, and say how the process ends."""
        if self.traceback:
            import traceback

            traceback.print_exception(error)
        else:
            text = f"error: {_text(error)}"
            print(_wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr)
        if self.as_json:
            from quanthost.cli.output import write_json

            write_json({"error": _document(error)})
        if isinstance(error, UsageError):
            return ExitCode.USAGE
        return ExitCode.FAILED if isinstance(error, QuanthostError) else ExitCode.UNEXPECTED


def _wrapped(text: str) -> str:
    """Lines no wider than the terminal, what follows of one under the beginning of its text."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def _text(error: Exception) -> str:
    if isinstance(error, QuanthostError):
        return str(error)
    return (
        f"unexpected {type(error).__name__}: {error}\n"
        "  to do:  run the command again with --traceback, and report what it shows"
    )


def _document(error: Exception) -> dict[str, Any]:
    if not isinstance(error, QuanthostError):
        return {"kind": type(error).__name__, "seen": str(error)}
    return {
        "kind": type(error).__name__, "seen": error.seen, "needed": error.needed,
        "where": error.where or None, "to_do": error.remedy,
    }  # fmt: skip
