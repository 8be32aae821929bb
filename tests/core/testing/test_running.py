"""One run in several processes, and a case that raises."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from quanthost.testing import Area, Outcome, check_backend, running
from quanthost.testing.proving.case import Case, CaseFailure, CaseSkip, Judgment


@pytest.mark.slow
def test_two_processes(capfd: pytest.CaptureFixture[str]) -> None:
    """They run each case once, in the same order and with the same result as one; the second says nothing."""
    only = ["table/single/linear_relu/*", "table/variation/relu/*", "table/undeclared/a[b-d]*"]
    one, two = (check_backend("int8_reference", only=only, jobs=n) for n in (1, 2))

    assert capfd.readouterr().err == ""
    assert [(c.id, c.outcome, c.message) for c in one.cases] == [
        (c.id, c.outcome, c.message) for c in two.cases
    ]
    assert len(one.cases) > 10


def test_shares_are_balanced() -> None:
    """Their work differs by less than the heaviest subject."""
    weights = {"linear": 40, "relu": 9, "conv2d": 41, "add": 11, "hooks": 3}
    owners = running._assign(weights, 2)
    loads = [sum(n for name, n in weights.items() if owners[name] == share) for share in (0, 1)]

    assert owners.keys() == weights.keys()
    assert loads == [53, 51]
    assert set(running._assign({"linear": 40}, 2).values()) == {0}


@pytest.mark.parametrize("is_alive", [True, False])
def test_process_without_parent(monkeypatch: pytest.MonkeyPatch, is_alive: bool) -> None:
    """It ends at its next case, and no plugin's handler of exceptions catches that."""
    monkeypatch.setattr(running, "parent_process", lambda: SimpleNamespace(is_alive=lambda: is_alive))

    with contextlib.nullcontext() if is_alive else pytest.raises(running._ParentGoneError):
        running._check_parent(None)  # type: ignore[arg-type]  # the case is not used
    assert not issubclass(running._ParentGoneError, Exception)


def _raise() -> Judgment:
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("judge", "outcome", "message"),
    [
        (lambda: None, Outcome.PASSED, ""),
        (lambda: CaseSkip("not reached"), Outcome.SKIPPED, "not reached"),
        (lambda: CaseFailure(message="wrong"), Outcome.FAILED, "wrong"),
        (_raise, Outcome.FAILED, "it raised ZeroDivisionError: by zero"),
    ],
    ids=["pass", "skip", "failure", "error"],
)
def test_judged_case(judge: Any, outcome: Outcome, message: str) -> None:
    """Each judgment has its outcome; an error of the plugin is a failure of the case."""
    session: Any = SimpleNamespace(subject=SimpleNamespace(name="toy"), selection=SimpleNamespace(full=True))
    case = Case(id="table/pair/a+b/int8 x", subject="a", must="be right", judge=judge)

    result = running.judge_case(session, case)

    assert (result.outcome, result.message, result.area) == (outcome, message, Area.TABLE)
    assert result.rerun == "quanthost check-backend toy --only 'table/pair/a+b/int8 x' --full"
