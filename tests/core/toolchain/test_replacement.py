"""Functions of the toolchain replaced for a while, in one thread, if they are as they were proved."""

from __future__ import annotations

import json
import sys
import threading
import types
from pathlib import Path

import pytest

from quanthost.toolchain.active import using
from quanthost.toolchain.fingerprints import Fingerprints, fingerprint
from quanthost.toolchain.replacement import Replacement, replace_all
from quanthost.values import Toolchain


class Owner:
    def said(self) -> str:
        return "its own"

    @property
    def name(self) -> str:
        return "its own"

    @classmethod
    def kind(cls) -> str:
        return cls.__name__


SAID = f"{__name__}:Owner.said"


def test_a_replacement_is_of_one_thread() -> None:
    """Others see the method as it was, and at the end it is."""
    replacement = Replacement(SAID, lambda original, self: f"not {original(self)}")
    before = Owner.said
    heard: list[str] = []
    with replacement.entered(), replacement.entered():
        thread = threading.Thread(target=lambda: heard.append(Owner().said()))
        thread.start()
        thread.join()
        assert Owner().said() == "not its own"
    assert heard == ["its own"]
    assert Owner.said is before


def test_a_replacement_outlives_the_first_thread_that_leaves() -> None:
    """As long as another is inside."""
    replacement = Replacement(SAID, lambda original, self: "another")
    inside, leave = threading.Event(), threading.Event()
    heard: list[str] = []

    def stay() -> None:
        with replacement.entered():
            inside.set()
            leave.wait(10)
            heard.append(Owner().said())

    thread = threading.Thread(target=stay)
    with replacement.entered():
        thread.start()
        assert inside.wait(10)
    assert Owner().said() == "its own"
    leave.set()
    thread.join()
    assert heard == ["another"]
    assert Owner().said() == "its own"


def test_properties_and_class_methods() -> None:
    """A property's getter and a class method are replaced, and are what they were afterwards."""
    before = dict(vars(Owner))
    name = Replacement(f"{__name__}:Owner.name", lambda original, self: f"not {original(self)}")
    kind = Replacement(f"{__name__}:Owner.kind", lambda original, cls: f"not {original(cls)}")
    with name.entered() as first, kind.entered() as second:
        assert first
        assert second
        assert (Owner().name, Owner.kind()) == ("not its own", "not Owner")
    assert all(vars(Owner)[each] is before[each] for each in ("said", "name", "kind"))


def test_a_function_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("replaced_module")
    module.twice = lambda x: 2 * x  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "replaced_module", module)
    with Replacement("replaced_module:twice", lambda original, x: original(x) + 1).entered():
        assert module.twice(2) == 5
    assert module.twice(2) == 4


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module:said", "No module named 'no_such_module'"),
        (f"{__name__}:Nobody.said", "has no attribute 'Nobody'"),
        (f"{__name__}:Owner.sung", f"{__name__}:Owner.sung is not there"),
    ],
)
def test_what_is_not_there(target: str, reason: str) -> None:
    """Is not replaced, nor is what relies on it; a note says why."""
    gone, there = Replacement(target, lambda *_: ""), Replacement(SAID, lambda *_: "another")
    with using(Toolchain.FAST) as way, gone.entered() as is_replaced, replace_all(there, gone):
        assert not is_replaced
        assert Owner().said() == "its own"
    (note,) = way.record().notes
    assert note.startswith(f"{target} is not replaced: ")
    assert reason in note


@pytest.mark.parametrize("proved", [True, False])
def test_only_proved_code_is_replaced(tmp_path: Path, *, proved: bool) -> None:
    path = tmp_path / "fingerprints.json"
    path.write_text(json.dumps({SAID: ["0" * 16, fingerprint(Owner.said) if proved else "1" * 16]}))
    replacement = Replacement(SAID, lambda *_: "another", Fingerprints(path))
    with using(Toolchain.FAST) as way, replacement.entered() as is_replaced:
        assert is_replaced is proved
        assert Owner().said() == ("another" if proved else "its own")
        # one that is replaced already is looked through
        with replacement.entered() as again:
            assert again is proved
    notes = [] if proved else [f"{SAID} is not as it was when its shortcut was proved"]
    assert list(way.record().notes) == notes
