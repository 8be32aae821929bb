"""Steps are shown with their time, and a failed one is not shown as done."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from quanthost.cli.progress_display import LineProgress, LiveProgress, live_steps, show_progress


def test_a_line_for_each_finished_step() -> None:
    """Name, seconds and the number of batches; the number does not stay for the next step."""
    stream = io.StringIO()
    progress = LineProgress(stream)
    with progress.stage("calibrate"):
        progress.batch(1, None)
        progress.batch(2, None)
        assert stream.getvalue() == ""
    with progress.stage("lower"):
        pass
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(r"calibrate +\d+\.\d s  2 batches, \S+/s", first)
    assert re.fullmatch(r"lower +\d+\.\d s", second)


def test_a_failed_step_has_no_line() -> None:
    """The error that follows says what happened."""
    stream = io.StringIO()
    with pytest.raises(KeyError), LineProgress(stream).stage("lower"):
        raise KeyError
    assert stream.getvalue() == ""


def test_batches_of_a_known_number_are_shown_with_it() -> None:
    """Until all are through."""
    stream = io.StringIO()
    progress = LineProgress(stream)
    with progress.stage("calibrate"):
        progress.batch(3, 8)
    assert re.search(r"3 of 8 batches, \S+/s, \d+ s left\n$", stream.getvalue())


def test_live_steps_end_as_done_or_failed() -> None:
    """The last picture has all steps: a mark for what is done, a word for what failed."""
    stream = io.StringIO()
    with live_steps(Console(file=stream, force_terminal=True, width=80, color_system=None)) as steps:
        progress = LiveProgress(steps)
        progress.batch(1, 1)
        with progress.stage("calibrate"):
            progress.batch(4, 4)
        with pytest.raises(KeyError), progress.stage("lower"):
            raise KeyError
    done, failed = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue()).split("\n")[-3:-1]
    assert re.search(r"✓ calibrate +\d+\.\d s 4 batches, \S+/s", done)
    assert re.search(r"lower +\d+\.\d s failed", failed)
    assert "✓" not in failed.split("\r")[-1]


def test_a_pipe_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, so that stdout stays the result's."""
    with show_progress() as progress, progress.stage("capture"):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"capture +\d+\.\d s\n", err)
