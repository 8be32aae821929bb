"""What backends say of themselves is kept, as long as nothing that it depends on changes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from quanthost.host import described_backends
from quanthost.host.described_backends import description
from quanthost.host.registry import Group, Installed
from quanthost.values import Manifest

MANIFEST = Manifest(name="npu", summary="one", api=">=1,<2", recipes=("fp32",), requires=("attrs",))


@pytest.fixture
def npu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """A plugin whose package lies in ``tmp_path/plugin``; what is kept lies in ``tmp_path/kept``."""
    package = tmp_path / "plugin" / "described_npu"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "rows.py").write_text("ROWS = 1")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("QUANTHOST_CACHE", str(tmp_path / "kept"))
    return Installed(
        name="npu", group=Group.BACKENDS, distribution="d", version="1", manifest=MANIFEST,
        entry_point="described_npu.backend:Npu",
    )  # fmt: skip


@pytest.fixture
def asked(npu: Installed) -> Callable[..., int]:
    """Ask for the description; how often it was made until now."""
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"rows": len(made)}

    def ask(**changes: Any) -> int:
        said = description(attrs.evolve(npu, **changes), make)
        assert said["rows"] <= len(made)
        return len(made)

    return ask


def test_it_is_made_once(asked: Callable[..., int], tmp_path: Path) -> None:
    assert [asked(), asked(), asked()] == [1, 1, 1]
    (kept,) = (tmp_path / "kept" / "descriptions").iterdir()
    assert json.loads(kept.read_text()) == {"rows": 1}


def test_what_it_depends_on(
    asked: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin's code and data, its manifest, the versions that it needs; what was kept before goes."""
    assert asked() == 1
    package = tmp_path / "plugin" / "described_npu"
    (package / "rows.py").write_text("ROWS = 2")
    assert [asked(), asked()] == [2, 2]
    (package / "more").mkdir()
    (package / "more" / "rows.json").write_text("{}")
    assert [asked(), asked()] == [3, 3]
    (package / "library.so").write_bytes(bytes(1 << 21))
    assert [asked(), asked()] == [4, 4]
    (package / "library.so").write_bytes(bytes(1 << 21) + b"x")
    assert [asked(), asked()] == [5, 5]
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "rows.pyc").write_bytes(b"compiled")
    assert asked() == 5
    assert [asked(manifest=attrs.evolve(MANIFEST, summary="two")), asked()] == [6, 7]
    monkeypatch.setattr(described_backends, "_version", lambda name: f"{name} 99")
    assert [asked(), asked()] == [8, 8]
    assert len(list((tmp_path / "kept" / "descriptions").iterdir())) == 1


def test_extensions_may_change_it(asked: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked() == 1
    monkeypatch.setattr(described_backends, "registered", lambda group: ["an extension"])
    assert [asked(), asked()] == [2, 3]


def test_a_damaged_file_counts_as_none(asked: Callable[..., int], tmp_path: Path) -> None:
    assert asked() == 1
    (kept,) = (tmp_path / "kept" / "descriptions").iterdir()
    kept.write_bytes(b'{"rows": \xff')
    assert [asked(), asked()] == [2, 2]


def test_a_folder_that_cannot_be_made(
    asked: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Costs the time, and nothing else."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUANTHOST_CACHE", str(tmp_path / "file" / "kept"))
    assert [asked(), asked()] == [1, 2]


def test_code_that_is_not_found_is_not_kept(asked: Callable[..., int]) -> None:
    assert [asked(entry_point="nowhere_at_all:x"), asked(entry_point="nowhere_at_all:x")] == [1, 2]


SAYS = """
import sys
from quanthost.cli import main
try:
    main(["describe", "xnnpack_like", *sys.argv[1:]])
except SystemExit as ended:
    assert not ended.code
print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["screen", "json"])
def test_the_second_time_loads_no_torch(tmp_path: Path, form: list[str]) -> None:
    """And says the same, in another process."""
    said = [
        subprocess.run(
            [sys.executable, "-c", SAYS, *form],
            capture_output=True,
            text=True,
            check=True,
            env={"QUANTHOST_CACHE": str(tmp_path), "PATH": "", "COLUMNS": "80"},
        )
        for _ in range(2)
    ]
    assert said[0].stdout == said[1].stdout
    assert "support table" in said[0].stdout or '"rows"' in said[0].stdout
    assert [each.stderr.split()[-1] for each in said] == ["True", "False"]
