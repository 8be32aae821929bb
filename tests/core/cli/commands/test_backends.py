"""The listing of what is installed."""

from __future__ import annotations

import json

import pytest
from cli_kit import Cli
from rich.console import Console

from quanthost.errors import BackendLoadError
from quanthost.host.discovery import Group, Installed
from quanthost.report.columns import columns
from quanthost.values import Manifest

_GOOD = Installed(
    name="npu", group=Group.BACKENDS, distribution="quanthost-npu", version="1.2", entry_point="npu:plugin",
    manifest=Manifest(
        name="npu", summary="Programs for a neural processor " + "with many words " * 6, api=">=1,<2",
        recipes=("int8_static", "fp32"),
    ),
)  # fmt: skip
_BROKEN = Installed(
    name="dsp", group=Group.BACKENDS, distribution="quanthost-dsp", version="0.1", entry_point="dsp:plugin",
    problem=BackendLoadError("no module 'dsp'", needed="it", remedy="pip install dsp"),
)  # fmt: skip


@pytest.fixture
def _two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quanthost.host.discovery.installed", lambda _: (_BROKEN, _GOOD))


@pytest.mark.usefixtures("_two")
def test_table_fits_80_columns(cli: Cli) -> None:
    """No escape codes and no trailing blanks in a pipe; a recipe a line; the reason of an unusable one."""
    ended = cli("backends")
    lines = ended.out.splitlines()
    assert lines[0].split() == ["backend", "recipes", "about"]
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert "\x1b" not in ended.out
    words = " ".join(ended.out.split())
    assert "cannot be used: no module 'dsp'; to do: pip install dsp" in words
    assert [line.split()[0] for line in lines if line.startswith(("dsp", "npu"))] == ["dsp", "npu"]
    assert any(line.split()[:1] == ["fp32"] for line in lines)


@pytest.mark.parametrize("width", ["60", "80", "131", "300"])
@pytest.mark.usefixtures("_two")
def test_it_looks_as_other_tables_do(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    """Line for line what the table of the other commands would be."""
    monkeypatch.setenv("COLUMNS", width)
    assert _GOOD.manifest is not None
    rows = [
        ["dsp", "", "quanthost-dsp 0.1\ncannot be used: no module 'dsp'; to do: pip install dsp"],
        ["npu", "int8_static\nfp32", f"{_GOOD.manifest.summary}\nquanthost-npu 1.2"],
    ]
    screen = Console(width=int(width), color_system=None)
    with screen.capture() as table:
        screen.print(columns(["backend", "recipes", "about"], rows, whole=["backend", "recipes"]))
    assert cli("backends").out.splitlines() == [line.rstrip() for line in table.get().splitlines()]


@pytest.mark.usefixtures("_two")
def test_a_narrow_screen(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names stay whole, and what is said of a backend keeps a readable width."""
    monkeypatch.setenv("COLUMNS", "20")
    lines = cli("backends").out.splitlines()
    assert any(line.startswith("npu      int8_static") for line in lines)
    assert max(map(len, lines)) <= 9 + 13 + 24


@pytest.mark.usefixtures("_two")
def test_json_has_manifest_and_problem(cli: Cli) -> None:
    """What is not known is null."""
    dsp, npu = json.loads(cli("backends", "--json").out)
    assert (dsp["recipes"], dsp["problem"]) == (
        None, {"seen": "no module 'dsp'", "to_do": "pip install dsp"},
    )  # fmt: skip
    assert (npu["recipes"], npu["problem"], npu["runtime"]) == (["int8_static", "fp32"], None, None)
    assert (npu["distribution"], npu["version"]) == ("quanthost-npu", "1.2")


def test_nothing_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says how to get a backend; for machines it is an empty list."""
    monkeypatch.setattr("quanthost.host.discovery.installed", lambda _: ())
    assert "no backend is installed" in cli("backends").out
    assert json.loads(cli("backends", "--json").out) == []
