"""``BackendInfo``: recipes by name, and checked fields."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import BackendInfo, DType, Kernel, QSpec, Recipe

STATIC = Recipe(name="int8_static", kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8))
FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
INFO = BackendInfo(name="npu", recipes=[STATIC, FP32])


def test_recipe_by_name() -> None:
    """A recipe is found by its name; an unknown name gives ``None``."""
    assert INFO.recipe("fp32") is FP32
    assert INFO.recipe("int4") is None
    assert INFO.recipes[0] is STATIC


@pytest.mark.parametrize("recipes", [(), (STATIC, STATIC)], ids=["none", "twice"])
def test_recipes_have_unique_names(recipes: tuple[Recipe, ...]) -> None:
    """A backend without recipes, or with two of the same name, is refused."""
    with pytest.raises(ValueCheckError, match=r"the recipes .*\n.*at least one, each name once"):
        attrs.evolve(INFO, recipes=recipes)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"recipes": STATIC}, "needed: a tuple\n.*where:  BackendInfo.recipes"),
        ({"recipes": ["int8_static"]}, "needed: Recipe"),
        ({"qat": None}, "needed: bool"),
        ({"options": "fast"}, "needed: a tuple\n.*where:  BackendInfo.options"),
        ({"options": ["Fast"]}, "the name 'Fast'"),
    ],
)
def test_info_that_does_not_fit(fields: dict[str, Any], problem: str) -> None:
    """Each field is checked, in a changed copy too."""
    with pytest.raises(ValueCheckError, match=problem):
        attrs.evolve(INFO, **fields)
