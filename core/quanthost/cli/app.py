"""The command ``quanthost``: its subcommands, their options, and how the process ends.

The work is imported when a command runs: parsing and ``--help`` load neither torch nor the toolchain.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import CommandInfo

from quanthost.cli import debug_commands, new_backend, statistics_commands
from quanthost.cli.exits import TRACEBACK, Faults, UsageError
from quanthost.cli.options import (
    ALLOWED,
    Arithmetic,
    Backends,
    Calibration,
    Force,
    Inputs,
    Json,
    Model,
    Options,
    Overrides,
    Placement,
    Recipe,
    policy,
)

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
    given = list(sys.argv[1:] if arguments is None else arguments)
    faults = Faults.of(given)
    try:
        allowed, rest = _split(argument for argument in given if argument != TRACEBACK)
        _needed(rest)(args=rest, prog_name="quanthost", obj={ALLOWED: allowed})
    except Exception as error:
        sys.exit(faults.show(error))


def _needed(arguments: Sequence[str]) -> typer.Typer:
    """The program with the commands that the arguments need, since typer builds each that it has.

    That is the command that the arguments begin with. The help of the program shows names and first lines:
    it needs all commands, but none of their options.
    """
    first = arguments[0] if arguments else "--help"
    needed = [info for info in app.registered_commands if _name(info) == first]
    if first in ("-h", "--help"):
        needed = [_without_options(info) for info in app.registered_commands]
    part = copy.copy(app)
    part.registered_commands = needed or app.registered_commands
    return part


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
    allowed, rest, left = None, [], iter(arguments)
    for argument in left:
        option, equals, value = argument.partition("=")
        if option != ALLOWED:
            rest.append(argument)
            continue
        allowed = value if equals else next(left, None)
        if allowed is None:
            raise UsageError(
                f"{ALLOWED} without a value", needed="names of backends", where="command line",
                remedy=f"write {ALLOWED} a,b",
            )  # fmt: skip
    return allowed, rest


def _print_help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(context.get_help())
        raise typer.Exit


# typer's own help option loads its validation library, which takes as long as the whole listing
_Help = Annotated[
    bool,
    typer.Option("--help", "-h", is_eager=True, callback=_print_help, help="Show this message and exit."),
]


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from quanthost.cli.commands.show_version import show_version

    show_version()
    raise typer.Exit


@app.callback(add_help_option=False)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    help: _Help = False,
) -> None:
    """Options of the program itself; each acts in its callback."""


@app.command(add_help_option=False)
def backends(context: typer.Context, json: Json = False, help: _Help = False) -> None:
    """List the installed backends and their recipes; imports none of them."""
    from quanthost.cli.commands.backends import backends as show

    show(policy(context), as_json=json)


@app.command()
def describe(
    context: typer.Context,
    backend: Annotated[str, typer.Argument(metavar="BACKEND", help="A name that 'backends' lists.")],
    json: Json = False,
) -> None:
    """Show a backend's recipes, options and support table."""
    from quanthost.cli.commands.describe import describe as show

    show(backend, policy(context), as_json=json)


@app.command()
def quantize(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:CALLABLE",
            help="Function that returns the model, or the model and its example inputs; MODULE is a"
            " dotted name or the path of a .py file.",
        ),
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option("--backend", "-b", help="Repeat it in order of priority.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="The backend's first recipe unless given.")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", "-c", metavar="MODULE:CALLABLE|FILE|DIR",
            help="Function that returns batches; or .npz or .safetensors files, named as the inputs.",
        ),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What 'calibrate' or 'merge-stats' saved, in place of data."),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(metavar="MODULE:CALLABLE", help="Function that returns the example inputs."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.pte", help="A .json is put beside it.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE,…",
            help="Rule for some nodes, as 'module_name=head.*,keep_float=true'. Repeat it; the first"
            " that matches a node wins.",
        ),
    ] = None,
    set_: Options = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="The same settings in [quantize] and [[override]] tables."),
    ] = None,
    representation: Annotated[
        str | None, typer.Option(metavar="qdq|reference|integer", help="Form of the graph. [default: qdq]")
    ] = None,
    arithmetic: Arithmetic = None,
    io: Annotated[
        str | None,
        typer.Option(metavar="float|int8|…", help="What inputs and outputs are. [default: float]"),
    ] = None,
    placement: Placement = None,
    optimize_for: Annotated[
        str | None,
        typer.Option(
            metavar="accuracy|latency", help="What int8 is for; needs 'measure'. [default: accuracy]"
        ),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="What 'measure' wrote, for latency. [default: its own]"),
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="table|json|none", help="What to write to stdout. [default: table]")
    ] = None,
    cache: Annotated[
        bool | None,
        typer.Option("--cache/--no-cache", help="Keep statistics and programs for reuse? [default: no]"),
    ] = None,
    force: Force = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Make a .pte from a model."""
    from quanthost.cli import settings
    from quanthost.cli.commands.quantize import quantize as work

    if json and report not in (None, "json"):
        raise UsageError(
            f"--json with --report {report}", needed="one of them", where="command line",
            remedy="leave one of them out",
        )  # fmt: skip
    wanted = "json" if json else report
    typed: dict[str, Any] = {
        "model": model, "backend": tuple(backend or ()), "recipe": recipe, "calibration": calibration,
        "inputs": inputs, "output": output, "force": force,
        "report": None if wanted is None else settings.parse_report(wanted, where="--report"),
        "override": [settings.parse_override(text) for text in override or ()],
        "set": settings.parse_options(set_ or ()),
        "statistics": statistics, "representation": representation, "arithmetic": arithmetic, "io": io,
        "placement": placement, "cache": cache, "optimize_for": optimize_for, "costs": costs,
    }  # fmt: skip
    work(settings.merge(typed, {} if config is None else settings.read_config(config)), policy(context))


@app.command()
def measure(
    context: typer.Context,
    backend: Annotated[str, typer.Argument(metavar="BACKEND", help="A name that 'backends' lists.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:CALLABLE",
            help="Measure this model's operators at their own sizes, instead of the table's at a few.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="Costs that are in it are kept."),
    ] = None,
    force: Force = None,
    json: Json = False,
) -> None:
    """Measure here what a backend's operators take, in integers and in float."""
    from quanthost.cli.commands.measure import measure as work

    work(backend, model or [], output, policy(context), force=bool(force), as_json=json)


@app.command("check-backend")
def check_backend(
    context: typer.Context,
    backend: Annotated[str, typer.Argument(metavar="BACKEND", help="A name that 'backends' lists.")],
    area: Annotated[
        list[str] | None,
        typer.Option(metavar="AREA", help="Only this area, as 'table' or 'numbers'. Repeat it."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this case, or a glob over ids. Repeat it.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Each row at each variation in each recipe; 15 minutes.")
    ] = False,
    expected: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Failures that are expected, each with its reason."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the cases as JSON.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write them as JUnit XML.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            help="Processes; as many as there are cores, up to four, for a large backend.",
        ),
    ] = None,
    force: Force = None,
) -> None:
    """Prove a backend: run the conformance suite over its support table.

    Ends with 1 where a case failed.
    """
    from quanthost.cli.exits import ExitCode
    from quanthost.toolchain.quiet import quiet_imports

    with quiet_imports():
        from quanthost.cli.commands.check_backend import check as work

    conforms = work(
        backend, policy(context), areas=area or (), only=only or (), full=full, expected=expected, json=json,
        junit=junit, jobs=jobs, force=bool(force),
    )  # fmt: skip
    if not conforms:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def inspect(
    program: Annotated[Path, typer.Argument(metavar="FILE.pte")],
    decisions: Annotated[bool, typer.Option("--decisions", help="List every node.")] = False,
    json: Json = False,
) -> None:
    """Show what a program is made of, how it was made, and what became of each node."""
    from quanthost.cli.commands.inspect import inspect as show

    show(program, as_json=json, decisions=decisions)


@app.command()
def run(
    program: Annotated[Path, typer.Argument(metavar="FILE.pte")],
    inputs: Annotated[
        str,
        typer.Option(
            "--inputs", "-i", metavar="FILE|random", help="An .npz or .safetensors, named as the inputs."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.npz", help="Store the outputs.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=0, help="Timed calls.")] = 10,
    force: Force = None,
    json: Json = False,
) -> None:
    """Execute a program in the ExecuTorch runtime of this machine."""
    from quanthost.cli.commands.run import run as work

    work(program, inputs, as_json=json, output=output, repeat=repeat, force=bool(force))


@app.command()
def golden(
    context: typer.Context,
    model: Model,
    backend: Backends,
    samples: Annotated[
        str,
        typer.Option(
            "--samples", "-s", metavar="MODULE:CALLABLE|FILE|DIR", help="Inputs to compare on, as batches."
        ),
    ],
    recipe: Recipe = None,
    calibration: Calibration = None,
    inputs: Inputs = None,
    override: Overrides = None,
    arithmetic: Arithmetic = None,
    placement: Placement = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .pte, or what a device recorded as .npz or .safetensors."
            " [default: the backend's own program]",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every operator.")] = False,
    json: Json = False,
) -> None:
    """Compare a model's exact integer form with a program or a recording, bit by bit.

    Ends with 4 where integers differ.
    """
    from quanthost.cli import settings
    from quanthost.cli.commands.golden import Wanted
    from quanthost.cli.commands.golden import golden as work
    from quanthost.cli.exits import ExitCode

    wanted = Wanted(
        model=model, backend=tuple(backend), samples=samples, inputs=inputs, recipe=recipe,
        calibration=calibration, arithmetic=arithmetic, placement=placement or "cost", against=against,
        override=tuple(settings.parse_override(text) for text in override or ()), everything=everything,
        as_json=json,
    )  # fmt: skip
    if not work(wanted, policy(context)):
        raise typer.Exit(ExitCode.DIFFERENT)


app.command("new-backend")(new_backend.new_backend)
app.command()(statistics_commands.calibrate)
app.command("merge-stats")(statistics_commands.merge_stats)
app.command()(debug_commands.why)
app.command()(debug_commands.trace)
app.command()(debug_commands.decisions)
app.command()(debug_commands.diff)
