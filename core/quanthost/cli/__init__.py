"""The command line: ``main`` is the entry point of the script ``quanthost``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from quanthost.cli.exits import Faults

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process with one of the exit codes.

    ``backends`` and ``--version`` with nothing else to parse run without typer, whose import takes longer
    than both.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words == ["--version"]:
            from quanthost.cli.show_version import show_version

            show_version()
        elif words in (["backends"], ["backends", "--json"]):
            from quanthost.cli.backend_list import show_backends
            from quanthost.host.policy import Policy

            show_backends(Policy.of(), as_json="--json" in words)
        else:
            from quanthost.cli.app import main as parse

            parse(words)
    except Exception as error:
        sys.exit(Faults.of(words).show(error))
    sys.exit()
