"""Errors, agreement and latency of two programs, against values worked out by hand."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import Tensor

from quanthost.errors import InputError
from quanthost.report.comparison import Contestant, compare, comparison_table, measure_latency, top_agreement


def _samples() -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(2, 8, generator=generator),) for _ in range(3)]


def test_sqnr_is_over_all_samples_and_per_output() -> None:
    """An error of a tenth of the signal is 20 dB; an exact output has an infinite ratio."""
    exact = Contestant(name="float", run=lambda x: {"near": x, "same": x})
    near = Contestant(name="int8", run=lambda x: {"near": x * 1.1, "same": x})
    levels = dict(compare(exact, near, _samples(), repeats=0).sqnr_db)
    assert levels["output['near']"] == pytest.approx(20.0, abs=1e-4)
    assert levels["output['same']"] == math.inf


def test_sqnr_pools_the_samples() -> None:
    """Signal and noise are summed over samples: not the mean of one infinite and one finite ratio."""
    samples = [(torch.tensor([3.0]),), (torch.tensor([4.0]),)]
    exact = Contestant(name="float", run=lambda x: x)
    off = Contestant(name="int8", run=lambda x: x if x[0] == 3 else x - 1)
    ((_, value),) = compare(exact, off, samples, repeats=0).sqnr_db
    assert value == pytest.approx(10 * math.log10(25.0), abs=1e-6)


def test_top_agreement_by_hand() -> None:
    """Row 0 agrees, row 1 has the reference's class second, row 2 third."""
    reference = torch.tensor([[9.0, 1, 0], [9, 1, 0], [9, 1, 0]])
    candidate = torch.tensor([[5.0, 1, 0], [4, 5, 0], [1, 5, 2]])
    assert [top_agreement(reference, candidate, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_agreement_needs_the_name_of_the_scores() -> None:
    """Without a name no agreement is measured; top-5 of five classes or fewer is omitted (always 1)."""
    one = Contestant(name="float", run=lambda x: x)
    assert compare(one, one, _samples(), repeats=0).top1 is None
    wide = compare(one, one, _samples(), scores="output", repeats=0)
    assert (wide.top1, wide.top5) == (1.0, 1.0)
    five = [(x[:, :5],) for (x,) in _samples()]
    narrow = compare(one, one, five, scores="output", repeats=0)
    assert (narrow.top1, narrow.top5) == (1.0, None)


def test_unknown_scores_are_refused() -> None:
    """The error lists the existing outputs."""
    one = Contestant(name="float", run=lambda x: {"logits": x})
    with pytest.raises(InputError, match=r"class scores in 'probs'\n  needed: one of output\['logits'\]"):
        compare(one, one, _samples(), scores="probs", repeats=0)


def test_no_sample_is_refused() -> None:
    """A comparison without samples is refused."""
    one = Contestant(name="float", run=lambda x: x)
    with pytest.raises(InputError, match="no sample to compare on"):
        compare(one, one, [])


def test_different_outputs_are_refused() -> None:
    """Both sides are named."""
    one = Contestant(name="float", run=lambda x: x)
    two = Contestant(name="int8", run=lambda x: (x, x))
    with pytest.raises(InputError, match=r"outputs output\[0\], output\[1\] of int8\n  needed: output\n"):
        compare(one, two, _samples(), repeats=0)


def test_latency_alternates() -> None:
    """Each is called once per round after the warm-up, and the order is reversed every round."""
    calls: list[str] = []
    runners = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    measured = measure_latency(runners, repeats=4, warmup=1)
    rounds = ["".join(calls[i : i + 2]) for i in range(0, len(calls), 2)]
    assert ["".join(sorted(names)) for names in rounds] == ["ab"] * 5
    assert all(one != two for one, two in itertools.pairwise(rounds))
    assert set(measured) == {"a", "b"}


def test_latency_is_the_median_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow call in five does not change the median, and warm-up calls are not counted."""
    now = 0.0
    durations = iter([9.0, 0.002, 0.002, 5.0, 0.002, 0.002])

    def call() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr("quanthost.report.comparison.time", SimpleNamespace(perf_counter=lambda: now))
    assert measure_latency({"a": call}, repeats=5, warmup=1) == {"a": pytest.approx(2.0)}


def test_table_shows_both_sides_and_the_ratio() -> None:
    """Sizes in their unit, the ratio of candidate to reference, shares in per cent."""
    one = Contestant(name="fp32", run=lambda x: x, size=4096)
    two = Contestant(name="int8", run=lambda x: x * 1.1, size=1024)
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(comparison_table(compare(one, two, _samples(), scores="output", repeats=1)))
    lines = [line.split() for line in captured.get().splitlines()]
    assert lines[0] == ["3", "samples", "fp32", "int8", "ratio"]
    assert lines[1] == ["size", "4.0", "KiB", "1.0", "KiB", "0.25", "×"]
    assert lines[2][:2] == ["latency,", "median"]
    assert lines[3:] == [
        ["SQNR", "of", "output", "20.0", "dB"],
        ["top-1", "agreement", "100.0%"],
        ["top-5", "agreement", "100.0%"],
    ]
