"""``quanthost inspect``, with and without a record."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import BACKEND, Cli

import quanthost


@pytest.fixture
def alone(program: Path, tmp_path: Path) -> Path:
    """The program without its record."""
    return Path(shutil.copy(program, tmp_path / "alone.pte"))


def test_shows_record_and_summary(cli: Cli, program: Path) -> None:
    """Who made it from what, how much is delegated, and each operator's verdict, in 80 columns."""
    ended = cli("inspect", str(program))
    assert ended.code == 0
    words = " ".join(ended.out.split())
    for part in (
        f"backend {BACKEND} (quanthost-xnnpack-like ", "recipe int8_static, qdq", "executorch 1.",
        "outputs float32 [1, 4]", "conv2d 1 quantized", "cumsum 1 float no", "float because of: 1 no row",
    ):  # fmt: skip
        assert part in words
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "\x1b" not in ended.out


def test_lists_each_node_on_demand(cli: Cli, program: Path) -> None:
    """With the module that an override could name."""
    lines = cli("inspect", str(program), "--decisions").out.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("node "))
    names = [decision.node for decision in quanthost.load(program).decisions]
    assert [line.split()[0] for line in lines[start + 1 :] if line.split()[0] in names] == names
    assert "stem" in [line.split()[0] for line in lines[start:]]


def test_json_has_the_decisions_on_demand(cli: Cli, program: Path) -> None:
    """As the record has them."""
    plain = json.loads(cli("inspect", str(program), "--json").out)
    full = json.loads(cli("inspect", str(program), "--json", "--decisions").out)
    assert "decisions" not in plain
    stored = json.loads(program.with_suffix(".json").read_text())["decisions"]
    assert full.pop("decisions") == stored
    assert full == plain
    assert plain["program"]["bytes"] == program.stat().st_size
    assert plain["record"]["nodes"]["quantized"] >= 2


def test_without_a_record_the_file_speaks(cli: Cli, alone: Path) -> None:
    """What is delegated and what runs outside is in the file; the rest is said to be unknown."""
    ended = cli("inspect", str(alone))
    assert ended.code == 0
    words = " ".join(ended.out.split())
    assert "delegate calls XnnpackBackend kernel calls aten.cumsum.out" in words
    assert "no alone.json beside it: backend, recipe and decisions are not known" in words
    assert json.loads(cli("inspect", str(alone), "--json").out)["record"] is None


def test_a_record_of_another_program_is_refused(cli: Cli, program: Path, alone: Path) -> None:
    """Exit code 1, nothing on stdout."""
    shutil.copy(program.with_suffix(".json"), alone.with_suffix(".json"))
    alone.write_bytes(program.read_bytes() + b"x")
    ended = cli("inspect", str(alone))
    assert (ended.code, ended.out) == (1, "")
    assert "alone.json belongs to another program than alone.pte" in ended.err


@pytest.mark.parametrize("name", ["nix.pte", "text.pte"])
def test_what_is_no_program_is_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    """A missing file and another kind of file."""
    (tmp_path / "text.pte").write_text("hello, this is no program")
    ended = cli("inspect", str(tmp_path / name))
    assert (ended.code, ended.out) == (1, "")
    assert ("no file" if name == "nix.pte" else "not an ExecuTorch program") in ended.err


@pytest.mark.parametrize("options", [[], ["--decisions"], ["--json"]], ids=lambda options: " ".join(options))
def test_loads_no_toolchain(program: Path, options: list[str]) -> None:
    """What a program is can be read from its two files, in a moment."""
    code = (
        "import sys\nfrom quanthost.cli import main\n"
        f"try: main({['inspect', str(program), *options]!r})\nexcept SystemExit as end: assert not end.code\n"
        "print(sorted({'torch', 'torchao', 'executorch', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    "command", [["inspect"], ["run", "--inputs", "random", "--repeat", "0"]], ids=" ".join
)
def test_says_nothing_beside_its_result(program: Path, command: list[str]) -> None:
    """Neither in a pipe nor on a terminal does the toolchain write of itself."""
    name, *options = command
    line = [sys.executable, "-c", "from quanthost.cli import main; main()", name, str(program), *options]
    piped = subprocess.run(line, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    assert piped.stdout
    ours, theirs = pty.openpty()
    shown = subprocess.Popen(line, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    # at the end of a terminal's output Linux raises, other systems give nothing
    with contextlib.suppress(OSError):
        while part := os.read(ours, 4096):
            written += part
    os.close(ours)
    assert shown.wait() == 0
    first = piped.stdout.split()[0]
    assert re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).lstrip().startswith(first)
    assert "arning" not in written.decode()
