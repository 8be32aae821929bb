"""A progress that shows nothing."""

from __future__ import annotations

import pytest

from quanthost.stages.progress import silent


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """All that stages tell is taken, and nothing is printed; errors inside of a stage pass through."""
    progress = silent()
    progress.batch(1, None)
    progress.note("from the cache")
    with pytest.raises(KeyError), progress.stage("calibrate"):
        raise KeyError

    assert capsys.readouterr() == ("", "")
