"""Tests of looking modules up without importing them."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
from fake_site import Site

from quanthost.host.module_files import is_importable, package_folders

RAISES = "raise RuntimeError('imported')\n"


@pytest.fixture
def tree(site: Site) -> Site:
    """A package that raises on import, with a namespace inside a namespace below it."""
    site.write(site.folder / "fake_top" / "__init__.py", RAISES)
    site.write(site.folder / "fake_top" / "space" / "inner" / "leaf.py", RAISES)
    return site


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("fake_top", True),
        ("fake_top.space", True),
        ("fake_top.space.inner.leaf", True),
        ("fake_top.space.inner.absent", False),
        ("fake_top.space.inner.leaf.absent", False),
        ("fake_top.absent.leaf", False),
        ("fake_absent", False),
        ("fake_absent.leaf", False),
        ("json.decoder", True),
        ("sys", True),
    ],
)
def test_is_importable(tree: Site, module: str, expected: bool) -> None:
    """Modules are found through packages and nested namespaces, and none of them runs."""
    assert is_importable(module) is expected
    assert "fake_top" not in sys.modules


def test_imported_module_without_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module put into ``sys.modules`` by hand is importable; its submodules are not made up."""
    monkeypatch.setitem(sys.modules, "fake_stub", types.ModuleType("fake_stub"))

    assert is_importable("fake_stub")
    assert not is_importable("fake_stub.part")


def test_import_that_is_barred(monkeypatch: pytest.MonkeyPatch) -> None:
    """``None`` in ``sys.modules`` bars an import, so the module counts as missing."""
    monkeypatch.setitem(sys.modules, "json", None)

    assert not is_importable("json")


def test_package_folders(tree: Site) -> None:
    """Folders come innermost first, and a plain module adds none."""
    top = tree.folder / "fake_top"

    folders = package_folders("fake_top.space.inner.leaf")

    assert folders == [top / "space" / "inner", top / "space", top]


def test_package_folders_of_an_absent_module(tree: Site) -> None:
    """What exists of the path is given even where the module does not exist."""
    assert package_folders("fake_top.absent.leaf") == [tree.folder / "fake_top"]
    assert package_folders("fake_absent") == []


class Finder:
    """Serves one dotted name, as the finder of an editable install does."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        found = spec_from_file_location(name, self.folder / "__init__.py")
        assert found is not None
        return found


def test_finder_inside_a_namespace(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that a finder adds to a namespace is found with what lies below it, and does not run."""
    site.write(site.folder / "fake_space" / "other.py", "")
    elsewhere = tmp_path / "elsewhere"
    site.write(elsewhere / "__init__.py", RAISES)
    site.write(elsewhere / "leaf.py", RAISES)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder("fake_space.npu", elsewhere)])

    assert package_folders("fake_space.npu.leaf") == [elsewhere, site.folder / "fake_space"]
    assert is_importable("fake_space.npu.leaf")
    assert not is_importable("fake_space.npu.absent")
    assert "fake_space" not in sys.modules
