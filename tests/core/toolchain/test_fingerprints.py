"""Fingerprints of toolchain code follow its source, and those of the installed toolchain are recorded."""

from __future__ import annotations

import importlib.util
import json
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from executorch.exir.passes.scalar_to_tensor_pass import ScalarToTensorPass

from quanthost.toolchain.active import using
from quanthost.toolchain.fingerprints import Fingerprints, fingerprint, name_of
from quanthost.toolchain.shortcuts import PROVED
from quanthost.values import Toolchain

SOURCE = """
import functools

LIMIT = 3

class Base:
    def call(self, x):
        return x

class Pass(Base):
    @functools.cache
    def call(self, x):
        def inside():
            return x
        return inside()

    @property
    def last(self):
        return [
            LIMIT,
        ]
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Makes a module of a source text, each time another one."""
    count = 0

    def load(source: str) -> ModuleType:
        nonlocal count
        count += 1
        path = tmp_path / f"code_{count}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        return module

    return load


def prints(module: ModuleType) -> dict[str, str]:
    code = {
        "call": module.Pass.call,
        "last": module.Pass.last,
        "class": module.Pass,
        "base": module.Base.call,
    }
    return {name: fingerprint(each) for name, each in code.items()}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("", "", set()),
        ("return inside()", "return inside() + 1", {"call", "class"}),
        ("return x\n        return", "return -x\n        return", {"call", "class"}),
        ("LIMIT,", "4,", {"last", "class"}),
        ("LIMIT = 3", "LIMIT = 4", {"class"}),
        ("\nLIMIT", "\n\n# a remark\nLIMIT", {"class"}),
    ],
)
def test_a_fingerprint_follows_the_source(
    load: Callable[[str], ModuleType], old: str, new: str, changed: set[str]
) -> None:
    """A function's own lines, wherever they stand; of a class the whole file."""
    before, after = prints(load(SOURCE)), prints(load(SOURCE.replace(old, new, 1)))
    assert {name for name in before if before[name] != after[name]} == changed
    assert all(len(each) == 16 for each in before.values())


def test_code_without_source_has_none(load: Callable[[str], ModuleType]) -> None:
    """And is never accepted; Python's own functions are known by their names."""
    module = load(SOURCE)
    assert module.__file__ is not None
    Path(module.__file__).unlink()
    assert fingerprint(module.Pass) == fingerprint(module.Base.call) == ""
    assert len(fingerprint(typing.get_type_hints)) == 16
    assert not Fingerprints(Path("nowhere.json")).accept(module.Base.call)


def test_what_is_not_accepted_is_noted(tmp_path: Path) -> None:
    """In each stage that asks, once."""
    path = tmp_path / "fingerprints.json"
    path.write_text(json.dumps({name_of(ScalarToTensorPass): ["0" * 16]}))
    fingerprints = Fingerprints(path)
    for _ in range(2):
        with using(Toolchain.FAST) as way:
            assert not fingerprints.accept(ScalarToTensorPass)
            assert not fingerprints.accept(ScalarToTensorPass)
        (note,) = way.record().notes
        assert note.startswith("executorch.exir.passes.scalar_to_tensor_pass:ScalarToTensorPass is not as")
    path.write_text(json.dumps({name_of(ScalarToTensorPass): ["0" * 16, fingerprint(ScalarToTensorPass)]}))
    assert Fingerprints(path).accept(ScalarToTensorPass)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "scripts" / "fingerprints.py"
    spec = importlib.util.spec_from_file_location("fingerprints_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_installed_toolchain_is_recorded(script: ModuleType) -> None:
    """Run the tests with a new version, then 'make fingerprints', then add it to PROVED."""
    assert len(set(PROVED)) == len(PROVED)
    assert [name for record in script.RECORDS for name in record.missing(script.code(record))] == []
    assert [set(record.accepted) - set(script.code(record)) for record in script.RECORDS] == [set(), set()]


def test_recording_adds_to_what_is_there(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Fingerprints of other versions stay, and nothing is written twice."""
    code = {"call": load(SOURCE).Pass.call, "new": load(SOURCE).Pass}
    path = tmp_path / "fingerprints.json"
    path.write_text(json.dumps({"gone": ["1"], "call": ["2"]}))
    for _ in range(2):
        Fingerprints(path).record(code)
    digests = {name: fingerprint(each) for name, each in code.items()}
    written = {"gone": ["1"], "call": ["2", digests["call"]], "new": [digests["new"]]}
    assert json.loads(path.read_text()) == written
    assert Fingerprints(path).missing(code) == {}
