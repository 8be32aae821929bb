"""The pytest plugin: cases are tests with the option, and nothing happens without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import run_script

ONLY = "persistence/manifest"
QUIET = ("-q", "-p", "no:cacheprovider")


def _pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", *QUIET, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_without_the_option(tmp_path: Path) -> None:
    """Other tests run, and torch is not imported."""
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n    assert 'torch' not in sys.modules\n", encoding="utf-8"
    )

    process = _pytest(tmp_path)

    assert process.returncode == 0, process.stdout + process.stderr
    assert "1 passed" in process.stdout


@pytest.mark.slow
def test_with_the_option(tmp_path: Path) -> None:
    """The chosen case is a test that passes; an unknown backend is a usage error."""
    words = ("--quanthost-backend", "int8_reference", "--quanthost-only", ONLY, "-vv", *QUIET)
    process = run_script([Path(sys.executable).with_name("pytest"), *words], tmp_path)
    unknown = _pytest(tmp_path, "--quanthost-backend", "int8_referenz")

    assert process.returncode == 0, process.stdout + process.stderr
    assert ONLY in process.stdout
    assert "1 passed" in process.stdout
    assert unknown.returncode == pytest.ExitCode.USAGE_ERROR
    assert "int8_reference" in unknown.stdout + unknown.stderr
