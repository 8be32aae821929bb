"""Recipes: they have qspecs if and only if the kernel quantizes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import DerivedQSpec, DType, Kernel, QSpec, Recipe, Role, SharedQSpec

SPEC = QSpec(dtype=DType.INT8)
STATIC = Recipe(name="int8_static", kernel=Kernel.STATIC, activation=SPEC, weight=SPEC)


@pytest.mark.parametrize("kernel", [Kernel.STATIC, Kernel.DYNAMIC, Kernel.WEIGHT_ONLY])
def test_integer_kernel_needs_a_qspec(kernel: Kernel) -> None:
    """A recipe for integer kernels that quantizes nothing is refused."""
    with pytest.raises(ValueCheckError, match=f"the kernel {kernel.value} with no qspec"):
        Recipe(name="r", kernel=kernel)


@pytest.mark.parametrize("role", ["activation", "weight", "bias"])
def test_float_kernel_takes_no_qspec(role: str) -> None:
    """The float recipe quantizes no role."""
    with pytest.raises(ValueCheckError, match="the kernel float with qspecs"):
        Recipe(name="fp32", kernel=Kernel.FLOAT, **{role: SPEC})  # type: ignore[arg-type]
    assert Recipe(name="fp32", kernel=Kernel.FLOAT).for_role(Role(role)) is None


def test_qspec_of_each_role() -> None:
    """Each role has its own qspec; unset roles and ``PASSTHROUGH`` stay float."""
    recipe = attrs.evolve(STATIC, bias=DerivedQSpec(sources=("input", "weight")), weight=None)
    assert recipe.for_role(Role.ACTIVATION) is SPEC
    assert recipe.for_role(Role.WEIGHT) is None
    assert recipe.for_role(Role.BIAS) == DerivedQSpec(sources=("input", "weight"))
    assert recipe.for_role(Role.PASSTHROUGH) is None


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "Int8"}, "the name 'Int8'"),
        ({"kernel": "static"}, "needed: Kernel"),
        ({"summary": None}, "where:  Recipe.summary"),
        ({"weight": "int8"}, "needed: QSpec or FixedQSpec or DerivedQSpec or SharedQSpec or None"),
    ],
)
def test_field_of_the_wrong_type(fields: dict[str, Any], problem: str) -> None:
    """Each field is checked, in a changed copy too."""
    with pytest.raises(ValueCheckError, match=problem):
        attrs.evolve(STATIC, **fields)


def test_every_kind_of_qspec_is_taken() -> None:
    """A role can share another tensor's parameters."""
    assert attrs.evolve(STATIC, bias=SharedQSpec(source="input")).bias == SharedQSpec(source="input")
