"""The command ``quanthost``: registers its subcommands, parses the line and ends the process.

A command is a module of ``quanthost.cli.commands``: its options, and its work, which imports what it needs.
Parsing and ``--help`` load neither torch nor the toolchain.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from typer.models import CommandInfo

from quanthost.cli.commands.backends import backends
from quanthost.cli.commands.calibrate import calibrate
from quanthost.cli.commands.check_backend import check_backend
from quanthost.cli.commands.decisions import decisions
from quanthost.cli.commands.describe import describe
from quanthost.cli.commands.diff import diff
from quanthost.cli.commands.golden import golden
from quanthost.cli.commands.inspect import inspect
from quanthost.cli.commands.measure import measure
from quanthost.cli.commands.merge_stats import merge_stats
from quanthost.cli.commands.new_backend import new_backend
from quanthost.cli.commands.quantize import quantize
from quanthost.cli.commands.run import run
from quanthost.cli.commands.trace import trace
from quanthost.cli.commands.why import why
from quanthost.cli.exits import TRACEBACK, Faults
from quanthost.cli.options import ALLOWED, Help
from quanthost.cli.usage import UsageError

__all__ = ["app", "main"]

_EPILOG = f"""
Anywhere on the line: {ALLOWED} a,b (only these may be imported; -c: all but c; narrows QUANTHOST_BACKENDS),
{TRACEBACK} (where an error was raised).

Exit codes: 0 done; 1 the work failed, the message says why and what to do; 2 the command line or the
configuration file is wrong; 3 an unexpected error, a defect of quanthost or of a plugin.
"""

app = typer.Typer(
    help="Quantize PyTorch models for ExecuTorch: name a backend, get a .pte and the reason for each node.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # frames cut the help at 80 columns, and markup takes [brackets] for styles
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process with one of the exit codes."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    faults = Faults.of(line)
    try:
        allowed, rest = _split(argument for argument in line if argument != TRACEBACK)
        _program(rest)(args=rest, prog_name="quanthost", obj={ALLOWED: allowed})
    except Exception as error:
        sys.exit(faults.show(error))


def _program(arguments: Sequence[str]) -> typer.Typer:
    """The app with the commands that the arguments need: typer builds each command that it has.

    That is the command that the arguments begin with. The app's own help shows names and first lines: it
    needs all commands, but none of their options.
    """
    first = arguments[0] if arguments else "--help"
    commands = [info for info in app.registered_commands if _name(info) == first]
    if first in ("-h", "--help"):
        commands = [_without_options(info) for info in app.registered_commands]
    program = copy.copy(app)
    program.registered_commands = commands or app.registered_commands
    return program


def _name(command: CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", ""))


def _without_options(command: CommandInfo) -> CommandInfo:
    def stand_in() -> None:
        """Is never called."""

    stand_in.__doc__ = getattr(command.callback, "__doc__", None)
    summary = copy.copy(command)
    summary.name, summary.callback = _name(command), stand_in
    return summary


def _split(arguments: Iterable[str]) -> tuple[str | None, list[str]]:
    """The last value of ``--backends-allowed``, and all other arguments.

    An option of typer that takes a value would load its validation library.
    """
    allowed, rest, remaining = None, [], iter(arguments)
    for argument in remaining:
        option, equals, value = argument.partition("=")
        if option != ALLOWED:
            rest.append(argument)
            continue
        allowed = value if equals else next(remaining, None)
        if allowed is None:
            raise UsageError(
                f"{ALLOWED} without a value", needed="names of backends", where="command line",
                remedy=f"write {ALLOWED} a,b",
            )  # fmt: skip
    return allowed, rest


def _print_version(is_set: bool) -> None:
    if not is_set:
        return
    from quanthost.cli.show_version import show_version

    show_version()
    raise typer.Exit


@app.callback(add_help_option=False)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    help: Help = False,
) -> None:
    """Options of the program itself; each acts in its callback."""


# in the order of --help
app.command("backends", add_help_option=False)(backends)
for command in (
    describe, quantize, measure, check_backend, inspect, run, golden, new_backend, calibrate, merge_stats,
    why, trace, decisions, diff,
):  # fmt: skip
    app.command(command.__name__.replace("_", "-"))(command)
