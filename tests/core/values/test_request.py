"""Requests: backends in order of priority, options of plain types."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import Override, Placement, Request

REQUEST = Request(backends="npu", recipe="int8_static")


def test_one_backend_or_several() -> None:
    """A single name is a list of one; several names keep their order of priority."""
    assert REQUEST.backends == ("npu",)
    assert attrs.evolve(REQUEST, backends=["npu", "cpu"]).backends == ("npu", "cpu")


@pytest.mark.parametrize("backends", [(), ("npu", "npu")], ids=["none", "twice"])
def test_backends_that_are_no_order(backends: tuple[str, ...]) -> None:
    """No backend, or the same one twice, is refused."""
    with pytest.raises(ValueCheckError, match=r"the backends .*\n.*at least one backend, each once"):
        attrs.evolve(REQUEST, backends=backends)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"backends": "NPU"}, "the name 'NPU'\n.*\n.*where:  Request.backends"),
        ({"backends": 5}, "needed: a tuple\n.*where:  Request.backends"),
        ({"recipe": "int8 static"}, "the name 'int8 static'"),
        ({"overrides": ["head"]}, "'head' of type str\n.*needed: Override"),
        ({"overrides": Override(node="a", keep_float=True)}, "needed: a tuple\n.*where:  Request.overrides"),
        ({"qat": 1}, "1 of type int\n.*needed: bool"),
        ({"placement": "cost"}, "needed: Placement"),
        ({"options": {"a": None}}, "None of type NoneType\n.*needed: str or int or float or bool"),
        ({"options": {"a": [1]}}, r"\[1\] of type list"),
        ({"options": {"a": float("nan")}}, "the option nan\n.*a finite number"),
        ({"options": {3: "a"}}, r"\(3, 'a'\)\n.*a name with its value"),
        ({"options": [("a", 1), ("a", 2)]}, "the options .*\n.*each option once"),
        ({"options": "fast"}, "needed: a tuple\n.*where:  Request.options"),
    ],
)
def test_field_that_does_not_fit(fields: dict[str, Any], problem: str) -> None:
    """Each field is checked, in a changed copy too."""
    with pytest.raises(ValueCheckError, match=problem):
        attrs.evolve(REQUEST, **fields)


def test_option() -> None:
    """An option has priority over the default, even if it is falsy."""
    options: dict[str, Any] = {"threads": 0, "fast": False, "mode": ""}
    request = attrs.evolve(REQUEST, options=options)
    assert request.option("threads", 4) == 0
    assert request.option("fast", True) is False
    assert request.option("mode", "x") == ""
    assert request.option("other", 4) == 4
    assert request.option("other") is None


def test_defaults() -> None:
    """The defaults: no overrides, no training, placement by cost."""
    assert (REQUEST.overrides, REQUEST.qat, REQUEST.placement) == ((), False, Placement.COST)
