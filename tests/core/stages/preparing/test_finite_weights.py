"""Weights and biases that are not finite are refused by name."""

from __future__ import annotations

import pytest
from flow_nets import rand
from torch import nn

import quanthost
from quanthost.errors import CalibrationError
from quanthost.values import Override

pytestmark = pytest.mark.slow
RECIPES = ("int8_static", "int8_dynamic", "int8_weight_only", "int4_group_dynamic")


def prepare(parameter: str, value: float, recipe: str, *overrides: Override) -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)).eval()
    model.get_parameter(parameter).data.view(-1)[3] = value
    quanthost.prepare(quanthost.capture(model, (rand(2, 32),)), "xnnpack_like", recipe, overrides)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("parameter", ["2.weight", "2.bias"])
def test_nan_is_refused(parameter: str, recipe: str) -> None:
    """In each recipe: rounded to integers, it would be an ordinary number."""
    with pytest.raises(CalibrationError, match=f"{parameter} holds 1 NaN of ") as caught:
        prepare(parameter, float("nan"), recipe)
    assert caught.value.node == "linear_1"


def test_infinity_is_refused() -> None:
    """It is no mask."""
    with pytest.raises(CalibrationError, match=r"2\.bias holds 1 infinite of 32 values"):
        prepare("2.bias", float("-inf"), "int8_static")


def test_what_stays_in_float_may_hold_anything() -> None:
    """By an override, or by the recipe."""
    prepare("2.weight", float("nan"), "int8_static", Override(node="linear_1", keep_float=True))
    prepare("2.weight", float("nan"), "fp32")
