"""One run in several processes, and one that is ended by what it runs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
from toy_backends import backend

from quanthost.errors import RequestError
from quanthost.testing import check_backend, running
from quanthost.testing.crash_notes import LastWords
from quanthost.testing.running import _may_have, _owners, _wants

ENDED = """
import os
from quanthost.testing.crash_notes import LastWords
with LastWords() as words:
    words.say("int8_static", ["conv/plain", "conv/unbatched"])
    {then}
"""


@pytest.mark.slow
def test_two_processes_find_what_one_does(capfd: pytest.CaptureFixture[str]) -> None:
    """Each case once, in the same order, with the same outcome and message; the other says nothing."""
    only = ["table/[sv]*/*relu*/*", "numbers/golden/*relu/*", "table/undeclared/[a-c]*"]
    one, two = (check_backend("int8_reference", only=only, jobs=n) for n in (1, 2))

    assert capfd.readouterr().err == ""
    assert [(c.id, c.outcome, c.message) for c in one.cases] == [
        (c.id, c.outcome, c.message) for c in two.cases
    ]
    assert len(one.cases) > 10


def test_shares_have_as_much_work() -> None:
    """They differ by less than the heaviest subject."""
    weights = {"linear": 40, "relu": 9, "conv2d": 41, "add": 11, "hooks": 3}
    owners = _owners(weights, 2)
    loads = [sum(n for name, n in weights.items() if owners[name] == share) for share in (0, 1)]

    assert owners.keys() == weights.keys()
    assert loads == [53, 51]
    assert set(_owners({"linear": 40}, 2).values()) == {0}


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*", {"conv", "conv_relu", "add"}),
        ("table/*/conv/*", {"conv"}),
        ("table/variation/conv*:plain/int8", {"conv", "conv_relu"}),
        ("table/variation/*:plain/int8", {"conv", "conv_relu", "add"}),
        ("table/pair/conv+add/int8", {"conv", "add"}),
        ("numbers/golden/a[dx]d/int8", {"add"}),
    ],
)
def test_rows_of_a_glob(pattern: str, wanted: set[str]) -> None:
    """No row is left out that has a case which the glob matches, though a star goes beyond a slash."""
    wants = _wants([pattern])

    assert {row for row in ("conv", "conv_relu", "add") if wants(row)} == wanted


@pytest.mark.parametrize(
    ("jobs", "seen"), [(0, "jobs=0"), (True, "jobs=True"), (2, "jobs=2 for a plugin object")]
)
def test_wrong_jobs(jobs: int, seen: str) -> None:
    with pytest.raises(RequestError, match=seen):
        check_backend(backend(), jobs=jobs)


@pytest.mark.parametrize(
    ("pattern", "kinds"),
    [
        ("*", {"table", "table/edge", "table/pair", "numbers"}),
        ("table/*/relu/*", {"table", "table/edge", "table/pair"}),
        ("table/pair/*+relu/*", {"table", "table/pair"}),
        ("table/e*relu*", {"table", "table/edge"}),
        ("numbers/qdq/relu/int8_static", {"numbers"}),
        ("t*", {"table", "table/edge", "table/pair"}),
    ],
)
def test_kinds_of_a_glob(pattern: str, kinds: set[str]) -> None:
    """No kind is left out that has a case which the glob matches."""
    assert {
        kind for kind in ("table", "table/edge", "table/pair", "numbers") if _may_have(kind, [pattern])
    } == kinds
    assert _may_have("table/edge", [])


@pytest.mark.parametrize(
    ("then", "told"),
    [("os.abort()", True), ("os._exit(3)", True), ("words.say(); os._exit(3)", False), ("pass", False)],
)
def test_last_words(then: str, told: bool) -> None:
    """What was being run is told where the process ends at once, and nothing where it ends as it should."""
    ran = subprocess.run(
        [sys.executable, "-c", ENDED.format(then=then)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ("ended by what it ran: conv/plain, conv/unbatched (int8_static)" in ran.stderr) == told


def test_a_watcher_that_is_ended() -> None:
    """It takes nothing with it."""
    with LastWords() as words:
        assert words._watcher is not None
        words._watcher.kill()
        words._watcher.wait()
        words.say("int8_static", ["conv/plain"])
        words.say()


@pytest.mark.parametrize("alive", [True, False])
def test_a_process_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch, alive: bool) -> None:
    """It ends at its next case, and no plugin's handler of exceptions keeps it."""
    monkeypatch.setattr(running, "parent_process", lambda: SimpleNamespace(is_alive=lambda: alive))

    with contextlib.nullcontext() if alive else pytest.raises(running._Orphaned):
        running._while_awaited(None)  # type: ignore[arg-type]  # it is not looked at
    assert not issubclass(running._Orphaned, Exception)
