"""The delegate's passes that are left out: in one thread, and only if they are as they were proved."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from executorch.backends.xnnpack._passes import XNNPACKPassManager
from torch import fx

from quanthost.toolchain.active import using
from quanthost.toolchain.fingerprints import name_of
from quanthost.values import Toolchain
from quanthost_xnnpack_like import preprocess

NOTHING: Any = SimpleNamespace(graph=fx.Graph())
ALL = tuple(XNNPACKPassManager(NOTHING).passes)
KNOWN = preprocess.skippable_passes(list(ALL))


def passes() -> tuple[type, ...]:
    return tuple(XNNPACKPassManager(NOTHING).passes)


def test_one_thread_leaves_passes_out() -> None:
    """Another one that lowers at the same time has all of them, and so has this one afterwards."""
    before = vars(XNNPACKPassManager)["__init__"]
    there: list[tuple[type, ...]] = []
    with preprocess.quick_preprocess():
        thread = threading.Thread(target=lambda: there.append(passes()))
        thread.start()
        thread.join()
        here = passes()
    assert here == tuple(kind for kind in ALL if kind not in KNOWN)
    assert there == [ALL]
    assert vars(XNNPACKPassManager)["__init__"] is before


def test_each_known_pass_is_one_of_the_delegate() -> None:
    assert {kind.__name__ for kind in KNOWN} == set(preprocess._WHEN)


@pytest.mark.parametrize("changed", KNOWN, ids=lambda kind: kind.__name__)
def test_a_pass_that_changed_runs(changed: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess.FINGERPRINTS, "_results", {})
    monkeypatch.setitem(preprocess.FINGERPRINTS.accepted, name_of(changed), ["0" * 16])
    with using(Toolchain.FAST) as way, preprocess.quick_preprocess():
        assert passes() == tuple(kind for kind in ALL if kind not in KNOWN or kind is changed)
    (note,) = way.record().notes
    assert note.startswith(f"{name_of(changed)} is not as it was")


@pytest.mark.parametrize("change", ["digest", "name"])
def test_a_manager_that_changed_has_all_passes(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delegate goes its own way, and a note says why."""
    target = preprocess.REPLACEMENT.target
    if change == "digest":
        monkeypatch.setattr(preprocess.FINGERPRINTS, "_results", {})
        monkeypatch.setitem(preprocess.FINGERPRINTS.accepted, target, ["0" * 16])
    else:
        monkeypatch.setattr(preprocess.REPLACEMENT, "_path", ["Renamed"])
    with using(Toolchain.FAST) as way, preprocess.quick_preprocess():
        assert passes() == ALL
    (note,) = way.record().notes
    assert note.startswith(f"{target} is not ")
