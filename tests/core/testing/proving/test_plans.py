"""Plans: samples share programs, and each is planned once."""

from __future__ import annotations

import pytest
from invented_plans import invent_plans, select
from toy_backends import RECIPE, ROWS

RANK, DTYPE = "rank 1 to 6", "tensors are float32"
RELU = ROWS[1]


def test_shared_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question plans all plain samples; the second about one of them plans nothing."""
    selection = select()
    plans, programs = invent_plans(monkeypatch, selection, lambda _: ())
    relu, linear = selection.samples(RELU)[0], selection.samples(ROWS[0])[0]

    assert not plans.is_held(RECIPE.name, relu)
    plans.get(RECIPE, relu)
    plans.get(RECIPE, linear)

    assert len(programs) == 1
    assert {relu.name, linear.name} <= set(programs[0])
    assert plans.is_held(RECIPE.name, linear)


def test_refused_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A constraint's own sample is one that nothing else refuses."""
    selection = select()
    refused = {"rank=0": (RANK,), "float64": (DTYPE, RANK)}
    plans, _ = invent_plans(monkeypatch, selection, lambda s: refused.get(s.variation, ()))
    samples = selection.samples(RELU)
    float32, rank = RELU.constraints

    refused_by_rank = plans.find_refused(RELU, RECIPE, rank, samples)
    assert refused_by_rank is not None
    assert refused_by_rank.variation == "rank=0"
    assert plans.find_refused(RELU, RECIPE, float32, samples) is None
    assert len(plans.filter_holding(RELU, RECIPE, samples)) == len(samples) - 2
