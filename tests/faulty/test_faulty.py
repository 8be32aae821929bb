"""The suite catches each seeded fault, in the area that it belongs to, and raises no false alarm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from chip_backends import delegating, portable
from faulty_backends import FAULTY
from seeded import Faulty

from quanthost.api import TableBackend
from quanthost.testing import Area, Outcome, check_backend

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seeded", FAULTY, ids=lambda seeded: f"{seeded.area.value}-{seeded.name}")
def test_a_seeded_fault(seeded: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case of its area fails, with what was seen and the line to run it again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    conformance = check_backend(seeded.make(tmp_path), only=seeded.only)

    found = [case for case in conformance.failures() if case.area is seeded.area]
    assert found, conformance.summary
    assert all(case.message and case.id in case.rerun for case in found)


@pytest.mark.parametrize("made", [delegating, portable], ids=["delegate", "portable"])
def test_a_sound_backend(made: Callable[[], TableBackend]) -> None:
    """No case of the quick set fails, and each area has cases that passed."""
    conformance = check_backend(made())

    assert [(case.id, case.message) for case in conformance.failures()] == []
    passed = {case.area for case in conformance.cases if case.outcome is Outcome.PASSED}
    assert passed >= set(Area) - {Area.PLACEMENT}
    assert (Area.PLACEMENT in passed) is (made is delegating)


def test_the_faults() -> None:
    """At least forty, in each area, each with a name of its own."""
    assert len({seeded.name for seeded in FAULTY}) == len(FAULTY) >= 40
    assert {seeded.area for seeded in FAULTY} == set(Area)
