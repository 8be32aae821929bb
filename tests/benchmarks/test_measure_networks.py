"""What the benchmarks measure: ratios by hand, turns by a counted clock, and a program's parts."""

import math

import measure
import pytest
import torch


class TestSqnr:
    def test_is_ten_times_the_log_of_the_power_ratio(self):
        """An error of a tenth of the signal is 20 dB."""
        assert measure.sqnr([torch.full((100,), 1.1)], [torch.ones(100)]) == pytest.approx(20, abs=1e-4)

    def test_sums_over_every_leaf(self):
        """Powers 4 + 16 over errors 1 + 1: 10 dB, wherever the tensors lie in the tree."""
        reference = [{"a": torch.tensor([2.0])}, (torch.tensor([4.0]),)]
        outputs = [{"a": torch.tensor([1.0])}, (torch.tensor([5.0]),)]
        assert measure.sqnr(outputs, reference) == pytest.approx(10)

    @pytest.mark.parametrize(
        ("output", "expected"), [(1.0, math.inf), (math.nan, -math.inf), (math.inf, -math.inf)]
    )
    def test_has_limits(self, output, expected):
        """Equal outputs have no noise; outputs that are not finite have nothing else."""
        assert measure.sqnr(torch.tensor([output]), torch.tensor([1.0])) == expected

    def test_refuses_another_shape(self):
        """Broadcasting would compare what does not belong together."""
        with pytest.raises(ValueError, match=r"an output has shape \(2,\), its reference \(1,\)"):
            measure.sqnr(torch.ones(2), torch.ones(1))

    def test_refuses_a_missing_leaf(self):
        """A program that lost an output must not be judged by the others."""
        with pytest.raises(ValueError, match="argument 2 is longer"):
            measure.sqnr([torch.ones(1)], [torch.ones(1), torch.ones(1)])


class TestClasses:
    def test_top1_counts_the_labels_that_win(self):
        """Scores lie in dimension 1 of the second leaf here; three of four are right."""
        scores = torch.eye(3)[[0, 2, 1, 1]]
        outputs = [(torch.zeros(1), row[None]) for row in scores]
        assert measure.top1(outputs, [0, 2, 1, 0], 1) == 0.75

    def test_agreement_counts_places(self):
        """A score map has a class at each of its places; one of the four differs."""
        reference = torch.tensor([1.0, 0.0])[None, :, None, None].repeat(1, 1, 2, 2)
        output = reference.clone()
        output[0, :, 1, 1] = torch.tensor([0.0, 1.0])
        assert measure.agreement([output], [reference], 0) == 0.75


class TestLatency:
    def test_is_the_median_in_milliseconds_after_warm_up(self, monkeypatch):
        """Durations of 9 (warm-up), then 1, 5 and 2 seconds: the median is 2000 ms."""
        durations = iter([9.0, 1.0, 5.0, 2.0])
        clock = [0.0]
        monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])

        def call():
            clock[0] += next(durations)

        assert measure.latency({"only": call}, runs=3, warm_up=1) == {"only": 2000.0}

    def test_programs_take_turns_and_change_who_starts(self):
        """No program always runs after the same other one."""
        calls = []
        measure.latency({name: lambda name=name: calls.append(name) for name in "ab"}, runs=2, warm_up=1)
        assert "".join(calls) == "abbaab"

    def test_nothing_to_time_is_no_result(self):
        """Where both programs failed to lower there is nothing to compare."""
        assert measure.latency({}, runs=2, warm_up=0) == {}


class TestShare:
    @pytest.mark.parametrize(
        ("delegated", "outside", "share"),
        [(3, {"aten::mean.out": 1}, 0.75), (0, {}, 0.0), (None, {"x": 2}, None)],
    )
    def test_is_the_delegated_part_of_all_operators(self, delegated, outside, share):
        """Unknown payloads leave the share unknown."""
        parts = measure.Composition(size=1, pieces=1, delegated=delegated, outside=outside)
        assert parts.share == share
