"""Plugins installed for real: built from their sources by pip into a folder that a new process sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from warm_python import run_code

__all__ = ["PLUGINS", "TESTS", "ask", "install"]

TESTS = Path(__file__).parent
PLUGINS = TESTS.parent.parent / "plugins"
_PIP = (
    *("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
    *("--disable-pip-version-check", "--no-warn-script-location"),
)


def install(sources: Sequence[Path], folder: Path) -> Path:
    """Install wheels, and distributions built from a copy of their sources; returns the importable folder."""
    site = folder / "site"
    ignored = shutil.ignore_patterns("*.egg-info")
    copies = [
        source
        if source.suffix == ".whl"
        else shutil.copytree(source, folder / "sources" / source.name, ignore=ignored)
        for source in sources
    ]
    _run([sys.executable, "-m", "pip", *_PIP, "--target", str(site), *map(str, copies)], os.environ)
    return site


def ask(site: Path, code: str, *, anew: str | None = None) -> Any:
    """What code prints as JSON in its last line, run in a process that sees the folder's plugins.

    The toolchain is already imported there. ``anew`` is code for a process without it, whose answers are
    added.
    """
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    env.pop("QUANTHOST_BACKENDS", None)
    said = _answer(_output(run_code(code, env)))
    return said if anew is None else said | _answer(_run([sys.executable, "-c", anew], env))


def _answer(printed: str) -> Any:
    return json.loads(printed.splitlines()[-1])


def _run(command: Sequence[str], env: Any) -> str:
    return _output(subprocess.run(command, env=env, capture_output=True, text=True, check=False))


def _output(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stderr
    return process.stdout
