"""Plans without a backend: a test says at which samples a row holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from toy_backends import ROWS, backend

from quanthost.api import Row
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving import plans
from quanthost.testing.proving.plans import Plans
from quanthost.testing.proving.programs import Programs
from quanthost.testing.proving.row_checks import RowCheck, SamplePlan
from quanthost.testing.proving.selection import Selection
from quanthost.testing.proving.subject import Subject

__all__ = ["Refusals", "invent_plans", "select"]

Refusals = Callable[[Sample], tuple[str, ...]]
"""The constraints that refuse the sample's own row, by text; none where it holds."""


def select(rows: tuple[Row, ...] = ROWS, **fields: Any) -> Selection:
    return Selection(**{"subject": Subject.load(backend(rows)), "full": False, **fields})


def invent_plans(
    monkeypatch: pytest.MonkeyPatch, selection: Selection, refusals: Refusals
) -> tuple[Plans, list[list[str]]]:
    """Plans by these refusals, and the names of the samples of each program that was planned."""
    programs: list[list[str]] = []

    def plan(_: Any, recipe: str, samples: Sequence[Sample], captured: Any) -> list[SamplePlan]:
        programs.append([sample.name for sample in samples])
        return [
            SamplePlan(
                decisions=(), matches=(),
                row_checks=(
                    RowCheck(row=s.row or "", nodes=("n",), refusals=tuple((t, "no") for t in refusals(s))),
                ),
            )
            for s in samples
        ]  # fmt: skip

    monkeypatch.setattr(plans, "plan_samples", plan)
    monkeypatch.setattr(Programs, "capture", lambda *_: None)
    return Plans(selection, Programs()), programs
