"""``quanthost new-backend``: each kind is made, built, installed, listed, and its program run; bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from sites import PLUGINS, ask, install

from quanthost.cli import main
from quanthost.cli.exits import ExitCode

ROOT = PLUGINS.parent
_XNNPACK = "executorch.backends.xnnpack"
WRAPPED = (
    f"{_XNNPACK}.quantizer.xnnpack_quantizer:XNNPACKQuantizer",
    f"{_XNNPACK}.partition.xnnpack_partitioner:XnnpackPartitioner",
)
LISTING = """
import json, sys
import quanthost
listed = {{b.name: (b.distribution, b.problem and str(b.problem)) for b in quanthost.installed()}}
lazy = not {{"torch", "{package}"}} & set(sys.modules)

from quanthost.host.discovery import load
info = load("{name}").info
late = "executorch.exir" not in sys.modules
print(json.dumps({{
    "listed": listed["{name}"], "lazy": lazy, "late": late, "arithmetic": info.arithmetic.name,
}}))
"""
SCRIPT = """
import json, sys
import quanthost
import contextlib, pytest
with contextlib.redirect_stdout(sys.stderr):
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-W", "ignore", "{folder}/tests"])

from quanthost.testing import check_backend
golden = {golden} and check_backend("{name}", only="numbers/golden/*").conforms

import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Sigmoid()).eval()
batches = [torch.randn(2, 3, 9, 9) for _ in range(4)]
program = quanthost.quantize(model, (batches[0],), "{name}", calibration=batches)
again = quanthost.load(program.save("{folder}/net.pte"))
made = program.run(batches[1])
print(json.dumps({{
    "tests": int(code), "golden": golden, "same": torch.equal(again.run(batches[1]), made),
    "error": float((made - model(batches[1])).detach().norm() / made.norm()),
    "pieces": [p.delegate for p in program.record.pieces],
    "portable": torch.equal(made, quanthost.quantize(
        model, (batches[0],), "{name}", calibration=batches, toolchain="upstream").run(batches[1])),
}}))
"""


@attrs.frozen(kw_only=True)
class Option:
    """A way to call the command, and what is to be said of the backend that it makes."""

    name: str
    arguments: tuple[str, ...] = ()
    arithmetic: str = "fp32_half_even"
    pieces: tuple[str, ...] = ()
    golden: bool = True
    """Whether its programs have the integers of the profile, with no tolerance."""


OPTIONS = (
    Option(name="mynpu", pieces=("MynpuBackend",)),
    Option(
        name="plain_npu",
        arguments=("--no-delegate", "--profile", "gemmlowp"),
        arithmetic="gemmlowp",
    ),
    Option(
        name="other_npu",
        arguments=("--profile", "gemmlowp"),
        arithmetic="gemmlowp",
        pieces=("OtherNpuBackend",),
    ),
    Option(name="wrapped", arguments=("--wrap", *WRAPPED), pieces=("XnnpackBackend",), golden=False),
)


def _make(*arguments: str) -> None:
    """Run the command, which must succeed."""
    with pytest.raises(SystemExit) as ended:
        main(["new-backend", *arguments])
    assert ended.value.code == ExitCode.DONE


@pytest.fixture(scope="module", params=OPTIONS, ids=lambda option: option.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Option, Path]:
    """An option, and the folder that it made."""
    option: Option = request.param
    folder = tmp_path_factory.mktemp("new") / option.name
    _make(option.name, "--directory", str(folder), *option.arguments)
    return option, folder


def test_it_installs_and_its_own_tests_pass(
    made: tuple[Option, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Built, installed, listed without an import; it quantizes, its program runs, also when loaded again."""
    option, folder = made
    site = install([folder], tmp_path_factory.mktemp("site"))
    listing = LISTING.format(name=option.name, package=f"quanthost_{option.name}")
    script = SCRIPT.format(name=option.name, folder=folder, golden=option.golden)
    said = ask(site, script, anew=listing)

    assert said["listed"] == [f"quanthost-{option.name.replace('_', '-')}", None]
    assert said["lazy"]
    assert said["late"]
    assert said["tests"] == 0
    assert said["arithmetic"] == option.arithmetic
    assert tuple(said["pieces"]) == option.pieces
    assert said["golden"] is option.golden
    assert said["same"]
    assert said["portable"]
    assert 1e-5 < said["error"] < 0.05


def _tool(folder: Path, *command: str, **environment: str) -> str:
    env = {**os.environ, "MYPYPATH": str(ROOT / "core"), **environment}
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False, env=env
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("command", ["ruff check --no-cache", "ruff format --check --no-cache"])
def test_it_is_clean(made: tuple[Option, Path], command: str) -> None:
    """What is made passes the tools that it configures, as it stands."""
    assert _tool(made[1], *command.split()) == ""


def test_its_types_are_right(tmp_path: Path) -> None:
    """mypy finds nothing in any of them; together they share what it knows of the host."""
    for option in OPTIONS:
        folder = tmp_path / option.name
        _make(option.name, "--directory", str(folder), *option.arguments)

        assert _tool(folder, "mypy", MYPY_CACHE_DIR=str(tmp_path / "cache")) == ""


def test_nothing_of_the_templates_is_left(made: tuple[Option, Path]) -> None:
    """Names are filled in everywhere, in contents and in paths, and each text file ends in a line's end."""
    kinds = ("*.py", "*.toml", "*.md", "*.yml", ".gitignore", "LICENSE")
    texts = {path: path.read_text() for kind in kinds for path in made[1].rglob(kind)}
    marks = ("{%", "%}", "{#", "j2", "PACKAGE", "dot-", "Undefined")

    assert [(path, mark) for path, text in texts.items() for mark in marks if mark in f"{path}{text}"] == []
    assert [path for path, text in texts.items() if text and not text.endswith("\n")] == []
    assert [path for path, text in texts.items() if text.endswith("\n\n")] == []


def test_long_names_stay_formatted(tmp_path: Path) -> None:
    """The longest name still makes files that the formatter leaves as they are."""
    name = "a" * 24
    for kind, arguments in (("delegate", ()), ("portable", ("--no-delegate",))):
        folder = tmp_path / kind
        _make(name, "--directory", str(folder), *arguments)

        assert _tool(folder, "ruff", "check", "--no-cache") == ""
        assert _tool(folder, "ruff", "format", "--check", "--no-cache") == ""


def _refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: ExitCode = ExitCode.FAILED
) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["new-backend", *arguments])
    assert caught.value.code == code
    return capsys.readouterr().err


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _wrapping(quantizer: str, partitioner: str = "json:loads") -> tuple[str, ...]:
    return ("npu", "--wrap", quantizer, partitioner)


@pytest.mark.parametrize(
    ("arguments", "seen", "todo"),
    [
        (("class",), "the backend name 'class', a keyword of Python", "choose another name"),
        (("My-NPU",), "the backend name 'My-NPU'", "choose another name"),
        (("npü",), "the backend name 'npü'", "choose another name"),
        (("",), "the backend name ''", "choose another name"),
        (("a" * 25,), "the backend name", "choose another name"),
        (("xnnpack_like",), "the backend name 'xnnpack_like', which quanthost-xnnpack-like", "uninstall"),
        (("npu", "--profile", "gemm"), "the arithmetic profile 'gemm'", "choose one of these"),
        (("npu", "--directory", "no/such"), "which is not a folder", "create no first"),
        (_wrapping("nothing"), "--wrap 'nothing'", "module, colon and name"),
        (_wrapping("no_such:Q"), "no_such, whose import raised", "install what"),
        (_wrapping("json:Nothing"), "json without a class or function", "correct the name"),
        (_wrapping("json:loads"), "json:loads(), which raised TypeError", "write a function"),
        (_wrapping("builtins:dict"), "builtins:dict() of type dict", "quantizer first"),
        (_wrapping(*reversed(WRAPPED)), "() of type XnnpackPartitioner", "quantizer first"),
    ],
    ids=[
        *("keyword", "no identifier", "not ASCII", "empty", "long", "taken", "profile", "no parent"),
        *("no colon", "no module", "no name", "raises", "no quantizer", "in the wrong order"),
    ],
)
def test_bad_input(
    empty: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], seen: str, todo: str
) -> None:
    """What was seen, needed, where, and what to do; nothing is written."""
    said = _refused(capsys, arguments)

    assert said.startswith("error: ")
    assert seen in said
    assert "needed: " in said
    assert "where:  " in said
    assert todo in said.partition("to do:  ")[2]
    assert list(empty.iterdir()) == []


def test_a_wrapped_backend_says_where_it_runs(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--wrap and --delegate contradict one another."""
    said = _refused(capsys, ("npu", "--no-delegate", "--wrap", *WRAPPED), ExitCode.USAGE)

    assert "--wrap with --delegate or --no-delegate" in said


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_what_exists_is_left(
    empty: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Any]
) -> None:
    """A folder, a file or a link of that name is neither filled nor replaced."""
    make(empty / "quanthost-npu")
    said = _refused(capsys, ("npu",))

    assert "quanthost-npu, which exists" in said
    assert [path.name for path in empty.iterdir()] == ["quanthost-npu"]


def test_a_full_disk_leaves_nothing(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one file cannot be written, no folder appears, and no temporary one stays."""
    written = []

    def write_text(path: Path, text: str, **_: Any) -> None:
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)
    said = _refused(capsys, ("npu",))

    assert len(written) == 5
    assert "quanthost-npu, which cannot be written: No space left on device" in said
    assert list(empty.iterdir()) == []


def test_json(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program is told the folder and its files."""
    _make("npu", "--json")
    said = capsys.readouterr().out

    assert '"distribution": "quanthost-npu"' in said
    assert (empty / "quanthost-npu" / "pyproject.toml").is_file()
