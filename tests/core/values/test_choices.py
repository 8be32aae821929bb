"""Texts from the outside: members of enums, or errors that help."""

from __future__ import annotations

import pytest

from quanthost.errors import RequestError
from quanthost.values import Io, Representation
from quanthost.values.choices import choose, nearest


def test_a_text_and_a_member() -> None:
    """A text names a member by its value; a member is one already."""
    assert choose(Io, "int8", "io") is Io.INT8
    assert choose(Io, Io.INT8, "io") is Io.INT8


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("int", "io='int'\n  needed: one of float, int8, uint8, int16\n  to do:  write int8"),
        ("flaot", "io='flaot'\n  needed: one of float, int8, uint8, int16\n  to do:  write float"),
        ("words", "io='words'\n  needed: one of float, int8, uint8, int16\n  to do:  choose one of these"),
        (8, "io=8\n  needed: one of float, int8, uint8, int16\n  to do:  choose one of these"),
        ([], "io=[]\n  needed: one of float, int8, uint8, int16\n  to do:  choose one of these"),
        (Representation.QDQ, "io=<Representation.QDQ: 'qdq'>\n  needed: one of float"),
    ],
)
def test_others_are_refused(value: object, said: str) -> None:
    """With what was seen, the choices, and the nearest where one is near."""
    with pytest.raises(RequestError) as caught:
        choose(Io, value, "io")  # type: ignore[arg-type]  # the mistake
    assert str(caught.value).startswith(said)


def test_the_nearest_name() -> None:
    """The beginning of a name before a similar one; nothing where nothing is near."""
    assert nearest("module", ["module_type", "module_name"]) == "module_type"
    assert nearest("modul", ["nodule", "module_name"]) == "module_name"
    assert nearest("recepy", ["model", "recipe"]) == "recipe"
    assert nearest("", ["recipe"]) is None
