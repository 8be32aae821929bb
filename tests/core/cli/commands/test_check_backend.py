"""``quanthost check-backend``: shown in 80 columns, files written, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import run_script

pytestmark = pytest.mark.slow


COMMAND = (Path(sys.executable).with_name("quanthost"), "check-backend")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script([*COMMAND, *arguments], Path.cwd())


def test_a_case(tmp_path: Path) -> None:
    """A table by area, a line that sums up, and both documents."""
    data, xml = tmp_path / "found.json", tmp_path / "found.xml"

    done = _run("int8_reference", "--only", "persistence/[mio]*", "--json", str(data), "--junit", str(xml))

    assert done.returncode == 0, done.stdout + done.stderr
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1].startswith("quanthost conformance | int8_reference")
    assert [case["outcome"] for case in json.loads(data.read_text())["cases"]] == ["passed"] * 3
    assert "persistence/manifest" in xml.read_text()


def test_what_cannot_be_run(tmp_path: Path) -> None:
    """An unknown backend fails, a file that exists is a usage error."""
    held = tmp_path / "held.json"
    held.write_text("{}")

    unknown, kept = _run("int8_referenz"), _run("int8_reference", "--json", str(held))

    assert unknown.returncode == 1
    assert "'int8_reference'" in unknown.stderr
    assert kept.returncode == 2
    assert held.read_text() == "{}"


def test_standard_error_of_a_sound_backend() -> None:
    """It is empty, even where torch has something to say of a sample."""
    only = "table/variation/conv/*:padding=same,even_window/int8_static"
    command = [*COMMAND, "int8_reference", "--full", "--only", only]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
