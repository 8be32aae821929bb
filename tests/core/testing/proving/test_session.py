"""A session converts the first samples of all rows together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from invented_plans import invent_plans, select
from toy_backends import RECIPE, ROWS

from quanthost.testing import Expectations
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving import session as sessions
from quanthost.testing.proving.session import Session


def test_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph for the first samples, another for a sample that is not one of them, each once."""
    selection = select()
    invent_plans(monkeypatch, selection, lambda _: ())
    graphs: list[list[str]] = []

    def convert(_: Any, recipe: str, samples: Sequence[Sample], captured: Any) -> list[str]:
        graphs.append([sample.name for sample in samples])
        return graphs[-1]

    monkeypatch.setattr(sessions, "convert_samples", convert)
    session = Session(selection, Expectations())
    firsts = [selection.samples(row)[0] for row in ROWS]
    other = selection.samples(ROWS[1])[1]

    converted: list[Any] = [session.convert(RECIPE, sample) for sample in (*firsts, other, firsts[0])]

    assert converted == [*(s.name for s in firsts), other.name, firsts[0].name]
    assert graphs == [[s.name for s in firsts], [other.name]]
