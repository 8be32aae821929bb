"""Runs share programs, each result is computed once, and a golden form is added where it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from invented_plans import invent_plans, select
from toy_backends import RECIPE, ROWS

from quanthost.testing.cases.samples import Regime, Sample
from quanthost.testing.proving import sample_runs
from quanthost.testing.proving.case import SampleRun
from quanthost.testing.proving.programs import Programs
from quanthost.testing.proving.sample_runs import SampleRuns
from quanthost.testing.proving.splitting import StageFailure

Program = tuple[list[str], Regime, bool]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> tuple[SampleRuns, list[Sample], list[Program], list[str]]:
    """Runs whose results are the names of samples; their samples, programs, and notes."""
    selection = select()
    plans, _ = invent_plans(monkeypatch, selection, lambda _: ())
    programs: list[Program] = []
    notes: list[str] = []

    def run(_: Any, recipe: str, samples: Sequence[Sample], regime: Regime, **fields: Any) -> list[str]:
        names = [sample.name for sample in samples]
        programs.append((names, regime, fields["golden"]))
        if any("permute" in name for name in names):
            raise ValueError("refused")
        return [f"{name} golden" if fields["golden"] else name for name in names]

    @contextlib.contextmanager
    def note(recipe: str, names: Iterable[str]) -> Iterator[None]:
        notes.append(f"{recipe}: {', '.join(names)}")
        yield

    monkeypatch.setattr(sample_runs, "run_samples", run)
    samples = [selection.samples(row)[0] for row in ROWS]
    return SampleRuns(selection.subject, plans, Programs(), note), samples, programs, notes


def test_scheduled_runs(recorded: tuple[SampleRuns, list[Sample], list[Program], list[str]]) -> None:
    """Those of one regime share a program, which runs once."""
    runs, (linear, relu, *_), programs, notes = recorded
    scheduled = [SampleRun("int8", linear), SampleRun("int8", relu), SampleRun("int8", relu, Regime.TINY)]
    runs.schedule(scheduled)

    results = [runs.get(run) for run in (*scheduled, *scheduled)]

    assert results[:3] == [linear.name, relu.name, relu.name] == results[3:]
    assert programs == [([linear.name, relu.name], Regime.PLAIN, False), ([relu.name], Regime.TINY, False)]
    assert notes[0] == f"int8: {linear.name}, {relu.name}"


def test_golden_runs(recorded: tuple[SampleRuns, list[Sample], list[Program], list[str]]) -> None:
    """A run with the golden form serves one without, and not the other way round."""
    runs, (linear, relu, *_), programs, _ = recorded
    golden = SampleRun("int8", linear, golden=True)

    assert runs.get(SampleRun("int8", relu)) == relu.name
    assert runs.get(golden) == f"{linear.name} golden"
    assert runs.get(SampleRun("int8", linear)) == f"{linear.name} golden"
    assert runs.get(SampleRun("int8", relu, golden=True)) == f"{relu.name} golden"
    assert [is_golden for _, _, is_golden in programs] == [False, True, True]


def test_a_failure(recorded: tuple[SampleRuns, list[Sample], list[Program], list[str]]) -> None:
    """One sample's failure leaves the others their results."""
    runs, samples, programs, _ = recorded
    runs.schedule(SampleRun("int8", sample) for sample in samples)
    results = [runs.get(SampleRun("int8", sample)) for sample in samples]

    assert [isinstance(result, StageFailure) for result in results] == [False, False, True, False]
    assert len(programs) > 1


def test_samples_alone(recorded: tuple[SampleRuns, list[Sample], list[Program], list[str]]) -> None:
    """A program of its own for each call."""
    runs, (linear, *_), programs, _ = recorded

    assert [runs.run_alone(RECIPE.name, linear) for _ in range(2)] == [linear.name, linear.name]
    assert len(programs) == 2
