"""The set-up of .venv: it installs when something that decides its content changed, and only then."""

from __future__ import annotations

import ast
import errno
import fcntl
import importlib.util
import re
import sys
import threading
import tomllib
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
    (plugin / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\n'
        '[project]\nname = "host-one"\ndependencies = ["host>=0.1,<0.2", "numpy"]\n'
    )
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\n[project]\nname = "host"\n'
        'dependencies = ["attrs>=24"]\n[project.optional-dependencies]\ndemo = ["picture"]\n'
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


def test_what_is_installed(bootstrap: ModuleType, commands: list[tuple[str, ...]]) -> None:
    """torch and executorch are pinned in the command that installs all that depends on them."""
    bootstrap.main()
    upgrade, needed, own, alone = commands
    folder = bootstrap.ROOT / "benchmarks"
    assert upgrade == ("--upgrade", "pip>=25.1", "setuptools>=77")
    assert needed == (
        *("torch==1", "executorch==2", "picture", "attrs>=24", "numpy"),
        *("--group", "dev", "--group", "docs", "--requirement", str(folder / "requirements.txt")),
    )
    assert own == (
        *("--no-deps", "--no-build-isolation", "--editable", str(bootstrap.ROOT)),
        *("--editable", str(bootstrap.ROOT / "plugins" / "one")),
    )
    assert alone == ("--no-deps", "--requirement", str(folder / "requirements-no-deps.txt"))


def test_each_step_is_announced(
    bootstrap: ModuleType, commands: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """With what it installs before it starts, and how long it took when it is done."""
    bootstrap.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "installing" in line] == [
        "setup: 2/5 installing pip and setuptools>=77",
        "setup: 3/5 installing torch==1, executorch==2, the tools and what the tests lower"
        " (some minutes the first time)",
        "setup: 4/5 installing quanthost and its plugins",
        "setup: 5/5 installing networks that bring their weights",
    ]
    assert len([line for line in lines if re.fullmatch(r"setup:     \d+ s", line)]) == 4
    assert re.fullmatch(r"setup: done in \d+ s", lines[-1])


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
        stream.write("[project]\n" if path.stat().st_size == 0 else "# changed\n")
    bootstrap.main()
    assert len(commands) == 4


def test_a_failed_installation_is_tried_again(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp is written after the last step, so a half-filled environment isn't taken for a whole one."""

    def fail(*_: str) -> None:
        raise bootstrap.StepFailed("ERROR: no such package")

    monkeypatch.setattr(bootstrap, "pip", fail)
    with pytest.raises(bootstrap.StepFailed):
        bootstrap.main()
    assert not bootstrap.STAMP.exists()


@pytest.mark.parametrize("left", ["nothing", "no pip", "other Python"])
def test_a_part_of_an_environment_is_made_anew(
    left: str, bootstrap: ModuleType, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Where an interrupted run left no pip, and where .venv is of another Python."""
    python = tmp_path / "python"
    if left != "nothing":
        python.write_text("#!/bin/sh\n" + ("exit 1\n" if left == "no pip" else "echo 3.10.1\n"))
        python.chmod(0o755)
    created: list[Path] = []
    monkeypatch.setattr(bootstrap, "PYTHON", python)
    monkeypatch.setattr(bootstrap.venv, "create", lambda folder, **_: created.append(folder))
    bootstrap.main()
    assert created == [bootstrap.VENV]
    assert f"setup: 1/5 making .venv with Python {sys.version.split()[0]}\n" in capsys.readouterr().out


def test_pip_shows_what_takes_long(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of pip's lines only large downloads and the number of packages; of a failure everything is kept."""
    code = (
        "print('  Downloading small.whl (9.1 MB)\\n  Downloading torch-1.whl (191.8 MB)')\n"
        "print('Installing collected packages: a, b, c')\nraise SystemExit('ERROR: no\\nwhy')"
    )
    monkeypatch.setattr(bootstrap, "PIP", ("-c", code))
    with pytest.raises(bootstrap.StepFailed) as failed:
        bootstrap.pip()
    assert capsys.readouterr().out == (
        "setup:     downloads torch-1.whl, 191.8 MB\nsetup:     unpacks 3 packages\n"
    )
    assert bootstrap.explain(str(failed.value)) == "pip failed; it wrote:\nERROR: no\nwhy"


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (str(OSError(errno.ENOSPC, "No space left on device")), "the disk is full: .venv takes about 2 GB"),
        ("Retrying after connection broken by 'NewConnectionError'", "pip reaches no package index"),
        ("ERROR: Could not find a version (from versions: none)", "pip reaches no package index"),
        ("No module named ensurepip", "this Python has no ensurepip"),
    ],
)
def test_known_failures_are_one_sentence(output: str, sentence: str, bootstrap: ModuleType) -> None:
    """It says what to do, and that nothing is lost."""
    text = bootstrap.explain(f"WARNING: a\n{output}\nERROR: b")
    assert text.startswith(sentence)
    assert text.endswith("then run the same command again: it continues where it stopped")
    assert "\n" not in text


def test_an_old_python_is_refused_in_one_sentence(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script parses with Python 3.7, and names the version that the host requires."""
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(sys, "version", "3.9.18 (main)")
    with pytest.raises(SystemExit) as ended:
        bootstrap.main()
    assert ended.value.code == (
        "setup: Python 3.11 or newer is needed, and this is 3.9.18; "
        "name another one: make setup PYTHON=python3.11"
    )
    project = tomllib.loads((SCRIPT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, bootstrap.OLDEST))


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
