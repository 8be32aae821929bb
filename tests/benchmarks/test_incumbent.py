"""The incumbent's side: steps are timed and named, errors become facts, results are merged."""

import json
import os
import time

import incumbent
import measure
import pytest
import torch
from torch import nn


class TestClock:
    def test_keeps_seconds_by_step_in_order(self):
        """The row reads in the order in which the steps ran."""
        clock = incumbent.Clock()
        for name in ("export", "lower"):
            with clock.step(name):
                pass
        assert list(clock.seconds) == ["export", "lower"]
        assert clock.running is None

    def test_tells_waiting_from_computing(self):
        """Half a second asleep is no work of the processor's."""
        clock = incumbent.Clock()
        with clock.step("lower"):
            time.sleep(0.5)
        assert clock.cpu < 0.25 < 0.5 <= clock.seconds["lower"]

    def test_names_the_step_that_an_error_left(self):
        """The time of the failed step counts, and the row says which one it was."""
        clock = incumbent.Clock()
        with pytest.raises(RuntimeError, match="boom"), clock.step("lower"):
            raise RuntimeError("boom")
        assert clock.running == "lower"
        assert "lower" in clock.seconds


class TestErrors:
    def test_facts_are_the_last_line_and_the_root(self):
        """Toolchain errors wrap each other, and their messages end with what matters."""

        def fail():
            try:
                raise AssertionError("not NHWC")
            except AssertionError as cause:
                raise RuntimeError("a pass failed\n  in pass 3\n") from cause

        with pytest.raises(RuntimeError) as caught:
            fail()
        facts = incumbent._error_facts(caught.value)
        assert facts == {"error": "RuntimeError: in pass 3", "cause": "AssertionError: not NHWC"}

    def test_an_error_without_words_is_named(self):
        """A bare assertion still says what it is."""
        assert incumbent._error_facts(AssertionError()) == {"error": "AssertionError"}


class TestResults:
    def test_a_row_replaces_its_elder_in_the_tables_order(self, tmp_path, monkeypatch):
        """Measuring one network again leaves the others' rows as they are."""
        path = tmp_path / "results" / "incumbent.json"
        monkeypatch.setattr(incumbent, "_RESULTS", path)
        for row in ({"name": "vit-6"}, {"name": "digits", "x": 1}, {"name": "digits", "x": 2}):
            incumbent._store(row)
        stored = json.loads(path.read_text())
        assert stored["networks"] == [{"name": "digits", "x": 2}, {"name": "vit-6"}]
        assert stored["versions"]["torch"] == torch.__version__
        assert stored["machine"]["cores"] >= 1


class TestApart:
    def test_hands_back_what_the_work_gave(self):
        """Program, failure and seconds cross from the other process unchanged."""
        made = incumbent.Attempt(pte=b"x" * 100_000, failure={}, seconds={"lower": 1.0})
        assert incumbent.apart(lambda: made, limit=30) == made

    def test_ends_work_that_takes_too_long(self):
        """A toolchain that takes hours costs the limit, and the row says so."""
        result = incumbent.apart(lambda: time.sleep(60), limit=0.2)
        assert (result.pte, result.failure) == (None, {"error": "no program after 0.2 s"})
        assert result.seconds["cpu"] < 0.2 <= result.seconds["total"] < 30

    def test_survives_a_process_that_dies(self):
        """A crash in native code is a row too, not the end of the benchmark."""
        result = incumbent.apart(lambda: os._exit(3), limit=30)
        assert result.failure == {"error": "the process ended with exit code 3"}


def small() -> nn.Module:
    """A convolution and a sum that XNNPACK takes, then a cumulative sum that it does not."""

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            return (y + y).cumsum(1)

    torch.manual_seed(0)
    return Small().eval().requires_grad_(False)


@pytest.mark.slow
class TestLowering:
    @pytest.mark.parametrize(("quantize", "least"), [(True, 25), (False, 100)], ids=["int8", "float"])
    def test_gives_a_program_that_runs_like_the_model(self, quantize, least):
        """Executed outputs keep ``least`` dB; the cumulative sum alone stays outside one delegated piece.

        That piece is the convolution and the sum between two changes of layout; int8 adds two conversions.
        """
        model = small()
        inputs = [(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(i)),) for i in range(4)]
        clock = incumbent.Clock()
        pte = incumbent.lower_incumbent(model, inputs[0], inputs, quantize, clock)
        run = measure.load(pte)
        assert measure.sqnr([run(x) for x in inputs], [[model(*x)] for x in inputs]) > least
        parts = measure.composition(pte)
        assert (parts.pieces, parts.outside) == (1, {"aten::cumsum.out": 1})
        quantizing = ["capture", "prepare", "calibrate", "convert"] if quantize else []
        assert list(clock.seconds) == [*quantizing, "export", "lower", "to_executorch"]
        assert parts.delegated == (6 if quantize else 4)

    def test_a_failure_is_a_value_that_names_the_step(self):
        """The linear layer takes four values, not three: capture refuses."""
        result = incumbent.attempt(nn.Linear(4, 2), (torch.ones(1, 3),), [], quantize=False)
        assert result.pte is None
        assert result.failure["failed_in"] == "export"
        assert "a and b must have same reduction dim" in result.failure["error"]
