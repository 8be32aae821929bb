"""Tests of what distributions register, as the metadata of the installed ones says it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_site import Site

from quanthost.errors import BackendLoadError
from quanthost.host.registry import Group, registered


def test_sorted_by_name_whatever_the_distribution(site: Site) -> None:
    """Order comes from the names, also where one distribution registers several."""
    site.add("bee", distribution="a-last")
    site.add_metadata("z-first", "2.0", "[quanthost.backends]\ncat = fake_z:c\nant = fake_z:a\n")

    found = registered(Group.BACKENDS)

    assert [(plugin.name, plugin.origin) for plugin in found] == [
        ("ant", "z-first 2.0"),
        ("bee", "a-last 1.0"),
        ("cat", "z-first 2.0"),
    ]
    assert found[0].where == "distribution z-first 2.0, entry point ant = fake_z:a"


def test_groups_are_apart(site: Site) -> None:
    """An extension is not a backend, and other groups are neither."""
    site.add("npu")
    site.add("guard", group="quanthost.extensions")
    site.add("script", group="console_scripts")

    assert [plugin.name for plugin in registered(Group.BACKENDS)] == ["npu"]
    assert [plugin.name for plugin in registered(Group.EXTENSIONS)] == ["guard"]


def test_egg_info_beside_dist_info(site: Site) -> None:
    """One project with two metadata folders, spelled differently, registers once."""
    info = site.folder / "fake_npu-1.0.dist-info"
    site.add("npu", distribution="fake-npu")
    egg = site.folder / "Fake_NPU.egg-info"
    site.write(egg / "PKG-INFO", (info / "METADATA").read_text().replace("fake-npu", "Fake_NPU"))
    site.write(egg / "entry_points.txt", (info / "entry_points.txt").read_text())

    assert [plugin.name for plugin in registered(Group.BACKENDS)] == ["npu"]


def test_first_on_the_path_wins(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout before the installed version hides it, as it does for an import."""
    site.add("npu", version="1.0")
    checkout = Site(tmp_path / "checkout")
    checkout.add("npu", version="2.0")
    monkeypatch.setattr(sys, "path", [str(checkout.folder), *sys.path])

    assert [plugin.version for plugin in registered(Group.BACKENDS)] == ["2.0"]


@pytest.mark.parametrize(
    ("entry_points", "name", "seen"),
    [
        ("[quanthost.backends]\nnpu\n", "fake-bad", "a line in entry_points.txt"),
        ("[quanthost.backends]\nnpu = fake npu\n", "npu", "'fake npu'"),
    ],
    ids=["line", "value"],
)
def test_unreadable_entry_point(site: Site, entry_points: str, name: str, seen: str) -> None:
    """An entry point that cannot be read is a problem of its distribution and leaves others alone."""
    site.add_metadata("fake-bad", "0.1", entry_points)
    site.add("zeta")

    bad, good = registered(Group.BACKENDS)

    assert (bad.name, bad.distribution) == (name, "fake-bad")
    assert isinstance(bad.problem, BackendLoadError)
    assert bad.problem.seen == f"an entry point that cannot be read: {seen}"
    assert bad.problem.where == "distribution fake-bad 0.1, entry_points.txt"
    assert (good.name, good.problem) == ("zeta", None)


def test_foreign_metadata_in_any_state(site: Site) -> None:
    """Broken metadata that does not concern the host disturbs nothing."""
    site.add("npu")
    (site.add_metadata("fake-binary", "1.0", "") / "entry_points.txt").write_bytes(b"[\xff]\n")
    site.add_metadata("fake-line", "1.0", "[console_scripts]\nno value\n")
    (site.add_metadata("fake-rest", "1.0", "[quanthost.backends]\nx = y:z\n") / "METADATA").unlink()

    assert [plugin.name for plugin in registered(Group.BACKENDS)] == ["npu"]
