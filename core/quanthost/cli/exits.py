"""How the command line ends: exit codes, and errors as text or JSON."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from quanthost.cli.usage import UsageError
from quanthost.errors import QuanthostError

__all__ = ["TRACEBACK", "ExitCode", "Faults"]

TRACEBACK = "--traceback"


class ExitCode(enum.IntEnum):
    """What the process returns to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNEXPECTED = 3
    DIFFERENT = 4


# a named tuple: help is shown without attrs, which takes as long to import as typer
class Faults(NamedTuple):
    """Shows errors: with a traceback on demand, and on stdout too if JSON is expected."""

    traceback: bool
    as_json: bool

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Faults:
        """Read the unparsed arguments, since parsing them can fail too."""
        # there --json takes a file, and stdout is for people
        to_file = "check-backend" in arguments
        return cls(traceback=TRACEBACK in arguments, as_json="--json" in arguments and not to_file)

    def show(self, error: Exception) -> ExitCode:
        """Write the error, and say how the process ends."""
        if self.traceback:
            import traceback

            traceback.print_exception(error)
        else:
            text = f"error: {_text(error)}"
            print(_wrap(text) if sys.stderr.isatty() else text, file=sys.stderr)
        if self.as_json:
            # late: most commands end without an error
            from quanthost.cli.output import write_json

            write_json({"error": _document(error)})
        if isinstance(error, UsageError):
            return ExitCode.USAGE
        return ExitCode.FAILED if isinstance(error, QuanthostError) else ExitCode.UNEXPECTED


def _wrap(text: str) -> str:
    """Wrap lines to the width of the terminal, with continuation lines below the start of the text."""
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
