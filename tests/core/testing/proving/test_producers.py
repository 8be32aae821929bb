"""Samples with a producer: they are built only if the row's own samples do not suffice."""

from __future__ import annotations

import pytest
from invented_plans import invent_plans, select
from toy_backends import RECIPE, ROWS

from quanthost.testing.proving.producers import ProducerSamples
from quanthost.testing.proving.row_samples import RowSamples

RELU = ROWS[1]
RULES = tuple(rule.text for rule in RELU.constraints)


def test_row_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """If its own samples show each constraint, none has a producer."""
    selection = select()
    refused = {"float64": RULES[:1], "rank=0": RULES[1:]}
    plans, _ = invent_plans(monkeypatch, selection, lambda s: refused.get(s.variation, ()))

    assert ProducerSamples(selection, plans).get(RELU, RECIPE) == []


def test_row_that_needs_a_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried behind each other row, and behind each variation of the first at which it holds."""
    selection = select()
    plans, _ = invent_plans(monkeypatch, selection, lambda s: () if s.producer == "linear" else RULES[:1])
    samples = ProducerSamples(selection, plans).get(RELU, RECIPE)

    assert {sample.producer for sample in samples} == {"linear"}
    assert all(sample.name.startswith("relu/behind=linear:") for sample in samples)
    assert all(sample.variation == "behind=linear" and sample.row == "relu" for sample in samples)
    assert len(samples) > 2


def test_row_that_never_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one sample behind each other row that fits."""
    selection = select()
    plans, _ = invent_plans(monkeypatch, selection, lambda _: RULES[:1])
    samples = ProducerSamples(selection, plans).get(RELU, RECIPE)

    assert {"linear", "permute"} <= {sample.producer for sample in samples}
    assert len(samples) == len({sample.producer for sample in samples})


def test_constraint_that_own_samples_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small table looks for it behind other rows."""
    selection = select()
    plans, _ = invent_plans(monkeypatch, selection, lambda s: RULES[1:] if s.producer == "permute" else ())
    rows = RowSamples(selection, plans)
    refused = rows.find_refused(RELU, RECIPE, RELU.constraints[1])

    assert refused is not None
    assert refused.producer == "permute"
    first = rows.find_first(RELU, RECIPE)
    assert first is not None
    assert first.variation == "plain"
    assert all(sample.producer is None for sample in rows.find_accepted(RELU, RECIPE))
