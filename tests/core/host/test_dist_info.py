"""Distributions are those that ``importlib.metadata`` finds, with the same fields and entry points."""

from __future__ import annotations

import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from fake_site import Site

from quanthost.host.dist_info import distributions, entry_points, fields, normalized, version
from quanthost.host.registry import Group, registered


def _known() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Name, version and console scripts of what is found here."""
    return {
        (fields(each)["name"], fields(each)["version"]): entry_points(
            each.read_text("entry_points.txt") or "", "console_scripts"
        )
        for each in distributions()
        if fields(each)
    }


def _known_to_python() -> dict[tuple[str, str], list[tuple[str, str]]]:
    return {
        (each.metadata["Name"], each.version): [
            (point.name, point.value) for point in each.entry_points.select(group="console_scripts")
        ]
        for each in metadata.distributions()
        if each.metadata["Name"]
    }


def test_this_environment() -> None:
    """All that is installed for these tests, in any layout."""
    known = _known()
    assert len(known) > 50
    assert known == _known_to_python()
    assert version("PyTest") == metadata.version("pytest")
    assert version("nobody-has-this") == ""


def test_eggs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layouts of older installers: folders that end in .egg-info, and EGG-INFO in an egg."""
    egg = site.folder / "some.egg"
    for info, name in ((site.folder / "One_Two.egg-info", "One.Two"), (egg / "EGG-INFO", "three")):
        site.write(info / "PKG-INFO", f"Metadata-Version: 1.1\nName: {name}\nVersion: 7\n\nName: no\n")
        site.write(info / "entry_points.txt", "# made by hand\n\n[console_scripts]\n x = y : z\n")
    site.write(site.folder / "old.egg-info", "Name: distutils\nVersion: 1\n")
    monkeypatch.setattr(sys, "path", [str(egg), *sys.path])
    assert _known() == {("One.Two", "7"): [("x", "y : z")], ("three", "7"): [("x", "y : z")]}
    assert version("one-two") == "7"


def test_archives_and_other_finders(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in no folder is found by Python's own means."""
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("npu-1.dist-info/METADATA", "Name: npu\nVersion: 1\n")
        packed.writestr("npu-1.dist-info/entry_points.txt", "[quanthost.backends]\nnpu = npu:x\n")
    assert registered(Group.BACKENDS) == []
    monkeypatch.setattr(sys, "path", [*sys.path, str(archive)])
    assert [plugin.origin for plugin in registered(Group.BACKENDS)] == ["npu 1"]


def test_names_have_one_spelling() -> None:
    """As PEP 503 has it."""
    assert normalized("A_b..C-d") == "a-b-c-d"
