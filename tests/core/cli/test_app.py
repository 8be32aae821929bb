"""Parsing, exit codes and the promise of a quick start."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest
from cli_kit import Cli
from typer.main import get_group

from quanthost.cli.app import app
from quanthost.errors import RequestError
from quanthost.host.discovery import Installed, Policy

_LISTING = "quanthost.host.discovery.installed"


def _raise(error: Exception) -> object:
    def fail(_: Policy) -> tuple[Installed, ...]:
        raise error

    return fail


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ()], ids=["long", "short", "nothing"])
def test_help_names_commands_and_exit_codes(cli: Cli, arguments: tuple[str, ...]) -> None:
    """Also where nothing was typed, which is a usage error; without escape codes, 80 columns wide."""
    ended = cli(*arguments)
    assert ended.code == (0 if arguments else 2)
    text = ended.out + ended.err
    for word in (
        "backends",
        "describe",
        "quantize",
        "inspect",
        "run",
        "Exit codes: 0 done; 1 the work failed",
    ):
        assert word in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", ["backends", "describe", "quantize", "inspect", "run"])
def test_each_command_has_help(cli: Cli, command: str) -> None:
    """Each mentions ``--json``, which all have."""
    ended = cli(command, "--help")
    assert ended.code == 0
    assert f"Usage: quanthost {command}" in ended.out
    assert "--json" in ended.out


def test_version(cli: Cli) -> None:
    """That of the distribution."""
    assert cli("--version").out == f"quanthost {importlib.metadata.version('quanthost')}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("backendz",), "No such command 'backendz'. Did you mean 'backends'"),
        (("inspect",), "Missing argument"),
        (("run", "a.pte"), "Missing option '--inputs'"),
        (("backends", "--jsn"), "No such option: --jsn"),
        (("backends", "--backends-allowed"), "--backends-allowed without a value"),
    ],
    ids=["command", "argument", "option", "unknown option", "value"],
)
def test_usage_errors_end_with_2(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    """The message is on stderr, stdout stays empty."""
    ended = cli(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_failures_end_with_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of quanthost is its four parts, and no traceback."""
    error = RequestError("a cat", needed="a dog", where="the kennel", remedy="bark")
    monkeypatch.setattr(_LISTING, _raise(error))
    ended = cli("backends")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "error: a cat\n  needed: a dog\n  where:  the kennel\n  to do:  bark\n"


def test_failures_are_json_where_json_is_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """stdout has one document in every case; the text is on stderr as ever."""
    monkeypatch.setattr(_LISTING, _raise(RequestError("a cat", needed="a dog", remedy="bark")))
    ended = cli("backends", "--json")
    assert ended.code == 1
    assert json.loads(ended.out) == {
        "error": {"kind": "RequestError", "seen": "a cat", "needed": "a dog", "where": None, "to_do": "bark"}
    }
    assert ended.err.startswith("error: a cat\n")


def test_errors_fit_a_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Words stay whole, and what follows of a line stands under the beginning of its text."""
    names = [f"recipe_{number}" for number in range(12)]
    error = RequestError("the recipe 'x'", needed="one of " + ", ".join(names), remedy="choose one")
    monkeypatch.setattr(_LISTING, _raise(error))
    piped = cli("backends").err.splitlines()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = cli("backends").err.splitlines()
    assert len(piped[1]) > 80
    assert max(map(len, shown)) <= 80
    assert shown[2].startswith("          recipe_")
    assert " ".join("\n".join(shown).split()) == " ".join("\n".join(piped).split())


def test_unexpected_errors_end_with_3(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what was raised, and how to see where."""
    monkeypatch.setattr(_LISTING, _raise(KeyError("lost")))
    ended = cli("backends", "--json")
    assert ended.code == 3
    assert ended.err.startswith(
        "error: unexpected KeyError: 'lost'\n  to do:  run the command again with --traceback"
    )
    assert json.loads(ended.out) == {"error": {"kind": "KeyError", "seen": "'lost'"}}


@pytest.mark.parametrize("arguments", [("--traceback", "backends"), ("backends", "--traceback")])
def test_traceback_on_demand(cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    """Before or after the command, and the exit code stays."""
    monkeypatch.setattr(_LISTING, _raise(RequestError("a cat", needed="a dog", remedy="bark")))
    ended = cli(*arguments)
    assert ended.code == 1
    assert "Traceback (most recent call last)" in ended.err
    assert "a cat" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--backends-allowed", "a,b", "backends"), ("backends", "--backends-allowed", "a,b"),
        ("backends", "--backends-allowed=a,b"),
    ],
)  # fmt: skip
def test_allowed_backends_make_the_policy(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Wherever the option stands."""
    seen: list[Policy] = []
    monkeypatch.delenv("QUANTHOST_BACKENDS", raising=False)
    monkeypatch.setattr(_LISTING, lambda policy: seen.append(policy) or ())
    assert cli(*arguments).code == 0
    assert seen == [Policy(allowed=("a", "b"))]


def test_a_blocked_entry_is_not_taken_for_an_option(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """``-c`` after the option is its value."""
    seen: list[Policy] = []
    monkeypatch.setattr(_LISTING, lambda policy: seen.append(policy) or ())
    assert cli("backends", "--backends-allowed", "-c").code == 0
    assert seen[0].blocked == ("c",)


_TYPER = {"annotated_doc", "shellingham", "typer", "typing_extensions"}


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("backends", {"attr", "attrs"}),
        ("backends --json", {"attr", "attrs"}),
        ("--version", set()),
        ("--help", _TYPER),
        ("quantize --help", _TYPER),
    ],
)
def test_what_a_start_may_import(command: str, allowed: set[str]) -> None:
    """The list of backends and help load few packages, and not ``importlib.metadata``, which loads slowly."""
    assert _imports(command) - {"quanthost"} <= allowed


def test_description_that_is_kept_loads_no_executorch() -> None:
    """It may load torch the first time, but never ExecuTorch, whose import takes seconds."""
    assert not _imports("describe xnnpack_like") & {"executorch", "networkx", "torchao"}


def _imports(command: str) -> set[str]:
    """Packages outside the standard library that a command imports, and ``importlib.metadata``."""
    code = (
        "import sys\nfrom quanthost.cli import main\n"
        f"try: main({command.split()!r})\nexcept SystemExit as end: assert not end.code\n"
        "names = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "names |= {'importlib.metadata'} & sys.modules.keys()\n"
        "print(*(name for name in names if not name.startswith('_')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--version"], ["backends"], ["backends", "--json"]], ids=" ".join)
def test_what_needs_no_parser_is_the_same_with_one(words: list[str], cli: Cli) -> None:
    """The quick way writes what the command of the program writes."""
    quick = cli(*words)
    parsed = cli(*words, "--backends-allowed", "")
    assert quick.code == 0
    assert quick == parsed


def test_help_without_options_is_the_whole_help(cli: Cli) -> None:
    """The program's help, made of commands without options, is that of the program with all of them."""
    group = get_group(app)
    with group.make_context("quanthost", [], resilient_parsing=True) as context:
        whole = group.get_help(context)
    assert cli("--help").out.strip() == whole.strip()


@pytest.mark.parametrize("command", sorted(get_group(app).commands))
def test_a_command_alone_is_what_it_is_among_all(cli: Cli, command: str) -> None:
    """Only the one that is asked for is built; its help is the same, and other ones are still known."""
    shown = cli(command, "--help")
    assert shown.code == 0
    assert shown.out.startswith(f"Usage: quanthost {command} ")
    assert cli("--help").out.count(f"\n  {command} ") == 1
    assert "No such command" in cli(command + "x").err
