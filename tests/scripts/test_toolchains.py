"""The table of proved toolchains: what is recorded, what the guide says, and where results come from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from quanthost.toolchain.shortcuts import PROVED

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NOTE = '<properties><property name="note" value="b is not there"/></properties>'
REPORT = f"""<testsuites><testsuite name="pytest" tests="3" failures="1">
<testcase classname="a" name="one">{NOTE}</testcase>
<testcase classname="a" name="two">{NOTE}</testcase>
<testcase classname="a" name="three"><failure message="no">no</failure></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def toolchains(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import toolchains as module

    yield module
    for name in ("toolchains", "environments"):
        sys.modules.pop(name, None)


def test_the_guide_has_the_recorded_results(toolchains: ModuleType) -> None:
    """Each row has a result without failures, and the page shows them."""
    results = toolchains.load()

    assert tuple(each.row for each in results) == toolchains.ROWS
    assert [each.failed for each in results] == [0] * len(results)
    assert toolchains.page(results) == toolchains.PAGE.read_text(encoding="utf-8")


def test_rows_are_the_proved_versions(toolchains: ModuleType) -> None:
    """Shortcuts are taken with the releases that are tested, and with no others."""
    rows = [(row.torch, row.torchao, row.executorch) for row in toolchains.ROWS]

    assert [(each.torch, each.torchao, each.executorch) for each in PROVED] == rows


def test_a_result_is_read_from_the_report_of_pytest(toolchains: ModuleType, tmp_path: Path) -> None:
    """Passed and failed cases are counted, and each note is there once."""
    (tmp_path / "smoke.xml").write_text(REPORT)

    result = toolchains.Result.read(toolchains.ROWS[0], tmp_path / "smoke.xml")

    assert (result.passed, result.failed, result.notes) == (2, 1, ("b is not there",))
    assert result.shortcuts == "all but some, see below"
    assert "- b is not there" in toolchains.table([result])


def test_only_what_differs_is_installed(toolchains: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of the right version are linked from this environment, whatever their build."""
    versions = {"torch": "2.13.0+cpu", "torchao": "0.18.0", "executorch": "1.5.1"}
    monkeypatch.setattr(toolchains.importlib.metadata, "version", versions.__getitem__)

    assert toolchains.Row(executorch="1.5.1").own() == {}
    assert toolchains.Row(executorch="1.4.1").own() == {"executorch": "1.4.1"}
