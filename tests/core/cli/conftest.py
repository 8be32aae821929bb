"""The command line in this process: exit code, stdout and stderr of one call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import BACKEND, NETS, Cli, Outcome

from quanthost.cli import main


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for a user lies in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command; both streams are pipes, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capfd.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``nets.py``: a small network, its example inputs and calibration batches."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "nets.py").write_text(NETS)
    return folder


@pytest.fixture(scope="session")
def program(zoo: Path) -> Path:
    """The network as an int8 program with its record, made by the command."""
    path, nets = zoo / "net.pte", zoo / "nets.py"
    arguments = ["quantize", f"{nets}:build", "-b", BACKEND, "-c", f"{nets}:batches", "-o", str(path)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--report", "none"])
    assert not ended.value.code
    return path
