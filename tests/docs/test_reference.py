"""The extension that shows attrs records and enums in the reference."""

from __future__ import annotations

from pathlib import Path

import griffe
import pytest

ROOT = Path(__file__).resolve().parents[2]
_SOURCE = '''
import attrs, enum

class Kind(enum.Enum):
    """A kind."""

    ONE = 1
    TWO = 2

    @property
    def next(self): ...

@attrs.frozen(kw_only=True)
class Record:
    """A record."""

    size: int = attrs.field(validator=check)
    kind: Kind = attrs.field(default=Kind.ONE)
    low: int = attrs.field(default=attrs.Factory(lowest, takes_self=True))
    names: list[str] = attrs.field(factory=list)
    flag: bool = False
    _cache: int = 0

@attrs.frozen
class Point:
    x: int
    y: int = 0

class Plain:
    size: int = 0
'''


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> griffe.Module:
    """A module as mkdocstrings sees it."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "sample.py").write_text(_SOURCE)
    extensions = griffe.load_extensions(str(ROOT / "docs" / "griffe_values.py"))
    module = griffe.load("sample", search_paths=[folder], extensions=extensions)
    assert isinstance(module, griffe.Module)
    return module


def _parameters(cls: griffe.Object) -> list[tuple[str, str, bool]]:
    """Name, default and whether it is passed by name only, of each parameter but ``self``."""
    only = griffe.ParameterKind.keyword_only
    return [(p.name, str(p.default), p.kind is only) for p in cls["__init__"].parameters if p.name != "self"]


def test_fields_become_parameters(shown: griffe.Module) -> None:
    """Validators don't show, defaults do; a default that is computed is said to be one."""
    assert _parameters(shown["Record"]) == [
        ("size", "None", True),
        ("kind", "Kind.ONE", True),
        ("low", "...", True),
        ("names", "list()", True),
        ("flag", "False", True),
    ]
    assert shown["Record"]["__init__"].parameters["size"].required


def test_records_that_take_positions_say_so(shown: griffe.Module) -> None:
    """Without ``kw_only`` the fields are positional."""
    assert _parameters(shown["Point"]) == [("x", "None", False), ("y", "0", False)]


def test_enums_list_their_members(shown: griffe.Module) -> None:
    """Members are named behind the docstring; properties are no members."""
    assert shown["Kind"].docstring.value == "A kind.\n\nMembers: ``ONE``, ``TWO``."


def test_other_classes_stay_as_they_are(shown: griffe.Module) -> None:
    """Only attrs classes get a signature."""
    assert "__init__" not in shown["Plain"].members
