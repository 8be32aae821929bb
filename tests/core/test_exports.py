"""Every module that lists its public names in a TYPE_CHECKING block offers them, and only them."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from quanthost.exports import exported_names

_MODULES = ["", ".api", ".arith", ".catalogue", ".inspection", ".testing", ".values"]


@pytest.fixture(params=_MODULES, ids=lambda name: f"quanthost{name}")
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"quanthost{request.param}")


def test_every_name_is_there(module: ModuleType) -> None:
    """Each exported name can be had, and what is not exported is an error."""
    assert module.__file__ is not None
    names = sorted(exported_names(Path(module.__file__).read_text(encoding="utf-8")))
    assert names
    assert dir(module) == module.__all__ == names
    for name in names:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_all_names_can_be_imported_at_once() -> None:
    """``import *`` takes the exported names and nothing else."""
    namespace: dict[str, object] = {}
    exec("from quanthost.values import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(importlib.import_module("quanthost.values").__all__)


def test_only_redundant_aliases_are_exports() -> None:
    """An import for annotations alone is no export, and neither is one outside the block."""
    source = """
from a import b as b
if TYPE_CHECKING:
    import c
    from d import e
    from f import g as h
    from i.j import k as k
"""
    assert exported_names(source) == {"k": "i.j"}


def test_a_zip_archive_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that no file holds lists its names as well."""
    code = "from quanthost.exports import lazy_exports\nTYPE_CHECKING = False\n"
    code += "if TYPE_CHECKING:\n    from json import dumps as dumps\n"
    code += "else:\n    __getattr__, __dir__ = lazy_exports(__name__)\n"
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("packed_face.py", code)
    monkeypatch.syspath_prepend(tmp_path / "packed.zip")
    assert importlib.import_module("packed_face").__all__ == ["dumps"]
