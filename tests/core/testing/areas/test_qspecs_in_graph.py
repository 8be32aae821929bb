"""Parameters of a converted graph that are wrong: the problem says where, and what was expected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_backends import RECIPE, ROWS, changed

from quanthost.api import DType, FixedQSpec, Row
from quanthost.testing.areas import qspecs_in_graph as in_graph
from quanthost.testing.proving.flow import ConvertedSample
from quanthost.testing.proving.operator_sites import OperatorSite, TensorParameters

LINEAR, RELU, PERMUTE = ROWS[:3]


def tensor(scale: Any = 0.5, zero_point: Any = 0, **fields: Any) -> TensorParameters:
    values = {"low": -128, "high": 127, "dtype": torch.int8, "axis": None, "constant": False, **fields}
    return TensorParameters(
        scales=torch.tensor(scale, dtype=torch.float64), zero_points=torch.tensor(zero_point), **values
    )


def converted(
    operator: str, result: TensorParameters | None, **operands: TensorParameters
) -> ConvertedSample:
    site = OperatorSite(origin="n", operator=operator, arguments={}, operands=dict(operands), result=result)
    return ConvertedSample(decisions=(), sites=(site,))


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (tensor(), None),
        (tensor(low=-129), "-129 to 127 in torch.int8"),
        (tensor(zero_point=200), "the zero point 200 outside -128 to 127"),
        (tensor(scale=float("inf")), "no finite number above zero"),
    ],
)
def test_ranges(parameters: TensorParameters, problem: str | None) -> None:
    text = in_graph.check_ranges(RELU, RECIPE, converted("aten.relu.default", parameters))

    assert text is None if problem is None else problem in str(text)


@pytest.mark.parametrize(("axis", "is_right"), [(0, True), (1, False)])
def test_axis(axis: int, is_right: bool) -> None:
    """The output channels of a linear layer lie along axis 0."""
    weight = tensor([0.5, 0.25], [0, 0], axis=axis, constant=True)
    text = in_graph.check_axes(LINEAR, RECIPE, converted("aten.linear.default", None, weight=weight))

    assert (text is None) is is_right


@pytest.mark.parametrize(
    ("bias", "problem"),
    [
        (tensor([0.25, 0.125], [0, 0]), None),
        (tensor([0.5, 0.5], [0, 0]), "has the scale 0.5; input scale × weight scale is 0.25"),
        (tensor([0.25, 0.125], [1, 0]), "has a zero point"),
    ],
)
def test_bias(bias: TensorParameters, problem: str | None) -> None:
    operands = {"input": tensor(0.5), "weight": tensor([0.5, 0.25], [0, 0], constant=True), "bias": bias}
    text = in_graph.check_biases(LINEAR, RECIPE, converted("aten.linear.default", None, **operands))

    assert text is None if problem is None else problem in str(text)


def test_sharing() -> None:
    """A permute keeps parameters, unless its row requantizes; a ReLU need not."""
    requantizes = next(
        row for row in changed("permute", shares=(), requantizes=True) if row.name == "permute"
    )

    def check(row: Row, operator: str) -> str | None:
        graph = converted(operator, tensor(0.25), self=tensor(0.5))
        return in_graph.check_sharing(row, RECIPE, graph)

    assert "different parameters" in str(check(PERMUTE, "aten.permute.default"))
    assert check(requantizes, "aten.permute.default") is None
    assert check(RELU, "aten.relu.default") is None


@pytest.mark.parametrize(
    ("declared", "result", "problem"),
    [
        ((1 / 256, -128), tensor(1 / 256, -128), None),
        ((1 / 256, -128), tensor(1 / 128, -128), "the row fixes 0.00390625 and -128"),
        ((1 / 256, 0), tensor(1 / 256, 0), "leaves out some of 0 to 1"),
        ((1 / 64, -128), tensor(1 / 64, -128), "is twice what 0 to 1 needs"),
    ],
)
def test_fixed_range(declared: tuple[float, int], result: TensorParameters, problem: str | None) -> None:
    """It is as declared, and just holds the results of a sigmoid."""
    spec = FixedQSpec(dtype=DType.INT8, scale=declared[0], zero_point=declared[1])
    (row,) = (row for row in changed("relu", qspecs={"output": spec}) if row.name == "relu")
    text = in_graph.check_fixed(row, RECIPE, converted("aten.sigmoid.default", result))

    assert text is None if problem is None else problem in str(text)


@pytest.mark.parametrize(
    ("weight", "problem"),
    [
        (tensor([0.5, 0.25], [0, 0], low=-127, axis=0, constant=True), None),
        (
            tensor([0.5, 0.25], [1, 0], low=-127, axis=0, constant=True),
            "symmetric, with a zero point",
        ),
        (tensor(0.5, 0, low=-127, constant=True), "one scale, declared one for each channel"),
        (tensor([0.5, 0.25], [0, 0], axis=0, constant=True), "-128 to 127, declared -127 to 127"),
    ],
)
def test_declared(weight: TensorParameters, problem: str | None) -> None:
    """Weights are symmetric, of one scale for each channel, from -127."""
    text = in_graph.check_declared(LINEAR, RECIPE, converted("aten.linear.default", None, weight=weight))

    assert text is None if problem is None else problem in str(text)
