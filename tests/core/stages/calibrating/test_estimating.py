"""Another estimator on what calibration saw: the ranges that it would have had, and no data run again."""

from __future__ import annotations

import pytest
import torch
from flow_nets import BACKEND, Net, images, prepared, rand
from torch import nn

import quanthost
from quanthost.errors import RequestError
from quanthost.graph.view import is_quantize
from quanthost.stages.records import CalibratedModel
from quanthost.values import DType, Estimator, Override, QSpec, RangeEstimator

BATCHES = images(6)
EACH = [
    RangeEstimator(kind=Estimator.MINMAX), RangeEstimator(kind=Estimator.MSE),
    RangeEstimator(kind=Estimator.ENTROPY), RangeEstimator(kind=Estimator.PERCENTILE, percentile=99.0),
]  # fmt: skip


@pytest.fixture(scope="module")
def calibrated() -> CalibratedModel:
    return quanthost.calibrate(prepared(Net(), BATCHES[0]), BATCHES)


def ranges(calibrated: CalibratedModel) -> list[tuple[object, ...]]:
    """Scale and zero point of each activation."""
    module = quanthost.convert(calibrated).module
    return [node.args[1:3] for node in module.graph.nodes if is_quantize(node)]


@pytest.mark.parametrize("estimator", EACH, ids=lambda e: e.kind.value)
def test_the_ranges_are_those_of_a_calibration_with_it(
    calibrated: CalibratedModel, estimator: RangeEstimator
) -> None:
    """As an override for each operator would have made them, bit for bit."""
    activation = QSpec(dtype=DType.INT8, estimator=estimator)
    anew = quanthost.prepare(
        quanthost.capture(Net().eval(), (BATCHES[0],)), "xnnpack_like",
        overrides=[
            Override(node=node, activation=activation) for node in ("conv2d", "relu", "mean", "linear")
        ],
    )  # fmt: skip

    assert ranges(calibrated.with_estimator(estimator)) == ranges(quanthost.calibrate(anew, BATCHES))


def test_the_given_model_stays(calibrated: CalibratedModel) -> None:
    """Each choice is made from the same statistics, in any order."""
    before = ranges(calibrated)
    narrow = calibrated.with_estimator(RangeEstimator(kind=Estimator.PERCENTILE, percentile=80.0))

    assert ranges(narrow) != before
    assert ranges(narrow.with_estimator("auto")) == before
    assert ranges(calibrated) == before


@pytest.mark.parametrize("estimator", ["mse", Estimator.MSE, RangeEstimator(kind=Estimator.MSE)])
def test_names_and_values(calibrated: CalibratedModel, estimator: object) -> None:
    """An estimator by name, kind or value; nothing is tried beside it."""
    converted = quanthost.convert(calibrated.with_estimator(estimator))  # type: ignore[arg-type]

    assert converted.refinement is None


@pytest.mark.parametrize("estimator", ["median", Estimator.MOVING_AVERAGE, "moving_average"])
def test_what_there_is_not(calibrated: CalibratedModel, estimator: str) -> None:
    """The estimators that there are."""
    with pytest.raises(RequestError, match="needed: one of auto, minmax, percentile, mse, entropy"):
        calibrated.with_estimator(estimator)


def test_a_recipe_without_ranges_of_data() -> None:
    """There is nothing that it could choose."""
    x = rand(2, 4)
    plain = quanthost.calibrate(prepared(nn.Linear(4, 2), x, recipe="fp32"), None)

    with pytest.raises(RequestError, match="the estimator mse for the recipe fp32"):
        plain.with_estimator("mse")
    assert torch.is_tensor(x)


def test_nothing_is_quantized() -> None:
    """The recipe takes ranges from data; an override leaves it none."""
    x = torch.rand(2, 4)
    override = Override(module_name="*", keep_float=True)
    prepared = quanthost.prepare(
        quanthost.capture(nn.Sequential(nn.Linear(4, 4)), x), BACKEND, overrides=[override]
    )
    with pytest.raises(RequestError, match="the estimator mse where nothing is quantized"):
        quanthost.calibrate(prepared, [x]).with_estimator("mse")
