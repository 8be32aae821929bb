"""The validators and converters of the values, on a class of this test."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import checks


@attrs.frozen(kw_only=True)
class Sample:
    """One field for each check."""

    name: str = attrs.field(default="a", validator=checks.identifier())
    number: int | None = attrs.field(default=None, validator=checks.kind(int, optional=True))
    flag: bool = attrs.field(default=False, validator=checks.kind(bool))
    share: float | None = attrs.field(default=None, validator=checks.between(0.0, 1.0))
    texts: tuple[str, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(str))
    )
    named: tuple[tuple[str, int], ...] = attrs.field(
        default=(), converter=checks.as_pairs, validator=checks.each(checks.pair(checks.kind(int)))
    )


@pytest.mark.parametrize("name", ["a", "int8_static", "x2", "a_"])
def test_identifier(name: str) -> None:
    """Names that are accepted: a letter, then letters, digits and underscores."""
    assert Sample(name=name).name == name


@pytest.mark.parametrize("name", ["", "A", "2x", "_a", "a-b", "a.b", "a\n", "ä", None, 3], ids=repr)
def test_no_identifier(name: Any) -> None:
    """Other names are refused, since names occur in files, command lines and module paths."""
    with pytest.raises(ValueCheckError, match=r"the name .*\n.*starting with a letter") as caught:
        Sample(name=name)
    assert caught.value.where == "Sample.name"
    assert caught.value.value is name


@pytest.mark.parametrize("value", [True, False, 1.0, "1"], ids=repr)
def test_kind_takes_no_bool_for_an_int(value: Any) -> None:
    """``True`` does not count as an ``int``; an unset number is ``None``."""
    assert Sample(number=None).number is None
    assert Sample(number=0).number == 0
    with pytest.raises(ValueCheckError, match=f"of type {type(value).__name__}\n.*needed: int or None"):
        Sample(number=value)


def test_kind_without_none() -> None:
    """A field that is not optional refuses ``None``."""
    with pytest.raises(ValueCheckError, match=r"None of type NoneType\n.*needed: bool"):
        Sample(flag=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan"), float("inf"), True, "0.5", 1j], ids=repr)
def test_between(share: Any) -> None:
    """Both ends belong to the interval; numbers outside and values that are not real numbers are refused."""
    assert Sample(share=0).share == 0
    assert Sample(share=1).share == 1
    with pytest.raises(ValueCheckError, match=r"needed: a number from 0\.0 to 1\.0"):
        Sample(share=share)


@pytest.mark.parametrize("texts", ["ab", b"ab", {"a": 1}, 5, None], ids=repr)
def test_each_refuses_what_is_no_collection(texts: Any) -> None:
    """A string does not become a tuple of its letters."""
    with pytest.raises(ValueCheckError, match=r"needed: a tuple\n.*where:  Sample.texts"):
        Sample(texts=texts)


def test_each_takes_any_collection_and_checks_its_items() -> None:
    """Lists and generators become tuples; the error shows the element of the wrong type."""
    assert Sample(texts=["a", "b"]).texts == ("a", "b")
    assert Sample(texts=(letter for letter in "ab")).texts == ("a", "b")
    with pytest.raises(ValueCheckError, match=r"^3 of type int"):
        Sample(texts=["a", 3])


def test_pairs_of_a_mapping_or_a_list() -> None:
    """Mappings, pairs, and lists of pairs from JSON give the same tuple."""
    assert Sample(named={"a": 1, "b": 0}).named == (("a", 1), ("b", 0))
    assert Sample(named=[("a", 1), ("b", 0)]).named == (("a", 1), ("b", 0))
    assert Sample(named=json.loads('[["a", 1], ["b", 0]]')).named == (("a", 1), ("b", 0))


@pytest.mark.parametrize("named", [["a"], [("a",)], [(1, 2)], [("a", 1, 2)], [5]], ids=repr)
def test_no_pairs(named: Any) -> None:
    """Anything but a name with a value is refused."""
    with pytest.raises(ValueCheckError, match="needed: a name with its value"):
        Sample(named=named)


def test_pairs_check_their_values() -> None:
    """The value of a pair is checked like a field of its type."""
    with pytest.raises(ValueCheckError, match=r"^'x' of type str\n.*needed: int"):
        Sample(named={"a": "x"})


@pytest.mark.parametrize("value", [True, "1", None], ids=repr)
def test_as_float_leaves_what_is_no_number(value: Any) -> None:
    """Only numbers become floats; the validator gets everything else unchanged."""
    assert checks.as_float(value) is value
    assert isinstance(checks.as_float(1), float)
    assert str(checks.as_float(-0.0)) == "0.0"
