"""From an empty folder to a proved backend, from wheels, in an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import author
import pytest
from whole import WHOLE

RECORDED = json.loads(author._RESULTS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("author")


@pytest.fixture(scope="module")
def steps(folder: Path) -> list[dict[str, Any]]:
    """All steps, done here; one that fails raises what it printed."""
    return author.record(folder)


if WHOLE:  # the steps but for the wheels are the tutorial's, which make test runs

    def test_it_ends_with_a_proved_backend(steps: list[dict[str, Any]]) -> None:
        """Listed alone, a network quantized and delegated, the whole suite passed, in three minutes."""
        said = {step["command"]: step["output"] for step in steps}

        listed = said["quanthost backends"].split()
        assert "mynpu" in listed
        assert "xnnpack_like" not in listed
        assert "MynpuBackend" in said[author._QUANTIZE]
        *_, last = said["quanthost check-backend mynpu"].strip().splitlines()
        assert last.startswith("quanthost conformance | mynpu 0.1.0: ")
        assert "failed" not in last
        assert sum(step["processor_seconds"] for step in steps) < author.LIMIT

    def test_nothing_comes_from_the_sources(steps: list[dict[str, Any]], folder: Path) -> None:
        """Host and backend are those of the wheels: no folder of sources is imported."""
        code = "import quanthost, quanthost_mynpu; print(quanthost.__file__, quanthost_mynpu.__file__)"
        environment = author.Environment(folder / ".venv")
        found = environment.run(["python", "-c", code]).stdout.split()

        assert [Path(each).is_relative_to(folder / ".venv") for each in found] == [True, True]


def test_the_page_shows_what_is_recorded() -> None:
    """The page is written from the recorded steps, which are those that are done here."""
    assert author._PAGE.read_text(encoding="utf-8") == author.page(RECORDED)
    assert sum(step["seconds"] for step in RECORDED["steps"]) < author.LIMIT
