"""Overrides: at least one selector, exactly one kind of action."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import DType, Override, QSpec, Role

SPEC = QSpec(dtype=DType.INT8)


def test_selects_nothing() -> None:
    """The error for a rule without selectors lists the selectors."""
    with pytest.raises(ValueCheckError, match=r"selects nothing\n.*module_name, module_type, operator, node"):
        Override(keep_float=True)


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        ({}, 0),
        ({"keep_float": False}, 0),
        ({"keep_float": True, "recipe": "r"}, 2),
        ({"keep_float": True, "weight": SPEC}, 2),
        ({"recipe": "r", "activation": SPEC, "bias": SPEC}, 2),
        ({"recipe": "r", "keep_float": True, "weight": SPEC}, 3),
    ],
    ids=lambda part: "+".join(part) if isinstance(part, dict) else "",
)
def test_exactly_one_kind_of_action(actions: dict[str, Any], count: int) -> None:
    """No action, or several kinds of action, are refused."""
    with pytest.raises(ValueCheckError, match=f"an override with {count or 'no'} actions"):
        Override(node="conv2d", **actions)


def test_qspecs_by_role() -> None:
    """All qspecs of an override together are one action."""
    override = Override(module_name="head.*", activation=SPEC, weight=SPEC)
    assert override.qspecs == {Role.ACTIVATION: SPEC, Role.WEIGHT: SPEC}
    assert Override(node="conv2d", recipe="r").qspecs == {}


def test_text_names_what_is_set() -> None:
    """The text of an override has the fields that the app developer set."""
    assert str(Override(module_name="head.*", operator="aten.linear", keep_float=True)) == (
        "override(module_name='head.*', operator='aten.linear', keep_float=True)"
    )
    assert str(Override(node="", recipe="r")) == "override(node='', recipe='r')"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"node": 3}, "needed: str or None\n.*where:  Override.node"),
        ({"keep_float": 1}, "needed: bool\n.*where:  Override.keep_float"),
        ({"recipe": 8}, "where:  Override.recipe"),
        ({"weight": DType.INT8}, "where:  Override.weight"),
        ({"keep_float": False}, "an override with no actions"),
        ({"node": None}, "selects nothing"),
    ],
)
def test_changed_copy_is_checked(fields: dict[str, Any], problem: str) -> None:
    """Each field is checked, in a changed copy too."""
    with pytest.raises(ValueCheckError, match=problem):
        attrs.evolve(Override(node="conv2d", keep_float=True), **fields)
