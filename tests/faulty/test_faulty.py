"""The suite catches each seeded fault in its area, and passes sound backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from chip_backends import delegating, portable
from faulty_backends import FAULTY
from seeded import SeededFault

from quanthost.api import TableBackend
from quanthost.testing import Area, Outcome, check_backend

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seeded", FAULTY, ids=lambda seeded: f"{seeded.area.value}-{seeded.name}")
def test_a_seeded_fault(seeded: SeededFault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case of its area fails, with a message and the command to repeat it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    conformance = check_backend(seeded.make(tmp_path), only=seeded.only)

    failures = [case for case in conformance.failures() if case.area is seeded.area]
    assert failures, conformance.summary
    assert all(case.message and case.id in case.rerun for case in failures)


# the cases that the faults are caught by; benchmarks/faulty.py runs the whole quick set
CATCHING = sorted({pattern for seeded in FAULTY for pattern in seeded.only})


@pytest.mark.parametrize("create", [delegating, portable], ids=["delegate", "portable"])
def test_a_sound_backend(create: Callable[[], TableBackend]) -> None:
    """No case that catches a fault fails, and each area has cases that passed."""
    conformance = check_backend(create(), only=CATCHING)

    assert [(case.id, case.message) for case in conformance.failures()] == []
    passed = {case.area for case in conformance.cases if case.outcome is Outcome.PASSED}
    assert passed >= set(Area) - {Area.PLACEMENT}
    assert (Area.PLACEMENT in passed) is (create is delegating)


def test_the_faults() -> None:
    """At least forty, in each area, each with its own name."""
    assert len({seeded.name for seeded in FAULTY}) == len(FAULTY) >= 40
    assert {seeded.area for seeded in FAULTY} == set(Area)
