"""The set-up of .venv: it installs when something that decides its content changed, and only then."""

from __future__ import annotations

import fcntl
import importlib.util
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bootstrap.py"


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, working on a checkout with one plugin; pip is not called."""
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plugin = tmp_path / "plugins" / "one"
    plugin.mkdir(parents=True)
    (plugin / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "pyproject.toml").write_text(
        '[dependency-groups]\ntoolchain = ["torch==1", "executorch==2"]\n'
    )
    (tmp_path / "benchmarks").mkdir()
    for name in ("requirements.txt", "requirements-no-deps.txt"):
        (tmp_path / "benchmarks" / name).touch()
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "installed")
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    return module


@pytest.fixture
def commands(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The arguments of each call of pip."""
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "pip", lambda *arguments: called.append(arguments))
    return called


def test_toolchain_is_installed_in_one_command(
    bootstrap: ModuleType, commands: list[tuple[str, ...]]
) -> None:
    """torch and executorch are pinned together; then come host, plugins and tools, and the networks."""
    bootstrap.main()
    upgrade, toolchain, rest, networks, alone = commands
    assert upgrade == ("--upgrade", "pip>=25.1")
    assert toolchain == ("torch==1", "executorch==2")
    assert rest == (
        *("--editable", ".[toolchain,demo]", "--editable", str(bootstrap.ROOT / "plugins" / "one")),
        *("--group", "dev", "--group", "docs"),
    )
    folder = bootstrap.ROOT / "benchmarks"
    assert networks == (*toolchain, "--requirement", str(folder / "requirements.txt"))
    assert alone == ("--no-deps", "--requirement", str(folder / "requirements-no-deps.txt"))


def test_second_run_installs_nothing(bootstrap: ModuleType, commands: list[tuple[str, ...]]) -> None:
    """Where the stamp agrees, pip isn't even started."""
    bootstrap.main()
    commands.clear()
    bootstrap.main()
    assert commands == []


@pytest.mark.parametrize(
    "changed",
    [
        *("pyproject.toml", "plugins/one/pyproject.toml", "plugins/two/pyproject.toml"),
        *("benchmarks/requirements.txt", "benchmarks/requirements-no-deps.txt"),
    ],
)
def test_a_changed_or_new_distribution_is_installed(
    changed: str, bootstrap: ModuleType, commands: list[tuple[str, ...]]
) -> None:
    """The contents decide, not the times of the files."""
    bootstrap.main()
    commands.clear()
    path = bootstrap.ROOT / changed
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as stream:
        stream.write("# changed\n")
    bootstrap.main()
    assert len(commands) == 5


def test_a_failed_installation_is_tried_again(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp is written after the last step, so a half-filled environment isn't taken for a whole one."""

    def fail(*_: str) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(bootstrap, "pip", fail)
    with pytest.raises(subprocess.CalledProcessError):
        bootstrap.main()
    assert not bootstrap.STAMP.exists()


def test_two_runs_wait_for_one_another(bootstrap: ModuleType, commands: list[tuple[str, ...]]) -> None:
    """The second of two runs in one checkout starts when the first is done, and finds the work done."""
    with (bootstrap.ROOT / "pyproject.toml").open("rb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        second = threading.Thread(target=bootstrap.main)
        second.start()
        second.join(timeout=0.3)
        assert second.is_alive()
        assert commands == []
        bootstrap.STAMP.write_text(bootstrap.fingerprint())
    second.join(timeout=10)
    assert not second.is_alive()
    assert commands == []
