"""A process that is ended by what it runs leaves a note behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from quanthost.testing import crash_notes
from quanthost.testing.crash_notes import CrashNotes

# the module alone: its package would import torch
SCRIPT = """
import os
import runpy
with runpy.run_path({module!r})["CrashNotes"]() as notes:
    with notes.note("int8_static", ["conv/plain", "conv/unbatched"]):
        {inside}
    {after}
"""


@pytest.mark.parametrize(
    ("inside", "after", "is_noted"),
    [
        ("os.abort()", "", True),
        ("os._exit(3)", "", True),
        ("pass", "os._exit(3)", False),
        ("pass", "pass", False),
    ],
)
def test_note(inside: str, after: str, is_noted: bool) -> None:
    """Standard error names the samples that were running if the process ends at once, and nothing else."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(module=crash_notes.__file__, inside=inside, after=after)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    note = "ended by what it ran: conv/plain, conv/unbatched (int8_static)"
    assert (note in process.stderr) == is_noted


def test_watcher_that_is_ended() -> None:
    """The run goes on without notes."""
    with CrashNotes() as notes:
        assert notes._watcher is not None
        notes._watcher.kill()
        notes._watcher.wait()
        for _ in range(2):
            with notes.note("int8_static", ["conv/plain"]):
                pass
