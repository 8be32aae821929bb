"""stdout has the result and nothing else; files are not replaced by accident."""

from __future__ import annotations

import ctypes
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from quanthost.cli.output import chatter_on_stderr, write, write_json
from quanthost.cli.usage import UsageError, refuse_existing
from quanthost.report.columns import columns


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No styles, no trailing blanks, 80 columns unless the environment says else."""
    monkeypatch.delenv("COLUMNS", raising=False)
    table = columns(["a", "b"], [[Text("x", style="red"), "word " * 30]])
    write(table, Text("end", style="bold"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "end"
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)
    assert 70 < max(map(len, lines)) <= 80
    monkeypatch.setenv("COLUMNS", "40")
    write(table)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_a_terminal_gets_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stdout is one."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    write(Text("x", style="red"))
    assert screen.getvalue() == "\x1b[31mx\x1b[0m\n"


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    """Names keep their letters, and NaN, which JSON does not have, is refused."""
    write_json({"näme": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"näme": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(float("nan"))


def test_a_reader_that_stops_early_is_no_fault() -> None:
    """As in ``quanthost backends | head -1``: no traceback, and nothing of an unexpected error."""
    code = (
        "import os, sys, time\nfrom quanthost.cli import app\nfrom quanthost.cli.output import write_json\n"
        "@app.app.command()\ndef talk() -> None:\n    time.sleep(0.2)\n    write_json(['x' * 99] * 9999)\n"
        "app.main(['talk'])"
    )
    talking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert talking.stdout is not None
    talking.stdout.close()
    _, err = talking.communicate(timeout=60)
    assert err == b""
    assert talking.returncode == 1


def test_chatter_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """From Python, from the descriptor, and out of the C library's buffer; afterwards all is as before."""
    with chatter_on_stderr():
        print("python")
        os.write(1, b"descriptor\n")
        ctypes.CDLL(None).puts(b"library")
    print("result")
    os.write(1, b"result too\n")
    out, err = capfd.readouterr()
    assert out == "result\nresult too\n"
    assert sorted(err.split()) == ["descriptor", "library", "python"]


def test_chatter_ends_with_an_error_too(capfd: pytest.CaptureFixture[str]) -> None:
    """stdout is given back when the work fails."""
    with pytest.raises(KeyError), chatter_on_stderr():
        raise KeyError
    print("after")
    assert capfd.readouterr().out == "after\n"


def test_existing_files_need_force(tmp_path: Path) -> None:
    """One of several is enough to refuse; with force files may exist, folders may not."""
    there, new = tmp_path / "a.pte", tmp_path / "b.pte"
    there.touch()
    refuse_existing(new, force=False)
    refuse_existing(new, there, force=True)
    with pytest.raises(UsageError, match=r"a\.pte, which exists\n(.*\n)*.*replace it with --force"):
        refuse_existing(new, there, force=False)
    with pytest.raises(UsageError, match="which exists and is a folder"):
        refuse_existing(tmp_path, force=True)


def test_a_missing_folder_is_said_before_the_work(tmp_path: Path) -> None:
    """With the command that makes it."""
    with pytest.raises(UsageError, match=r"in a folder that does not exist\n(.*\n)*.*mkdir -p .*nix"):
        refuse_existing(tmp_path / "nix" / "a.pte", force=True)


def test_a_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before the work, too."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UsageError, match="in a folder that is not writable"):
        refuse_existing(tmp_path / "a.pte", force=True)
