"""The integer representation has the delegate's bits: not one of a million integers differs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from builders import Apply
from kit import Branches, Case
from torch import Tensor, nn
from whole import part

import quanthost
from quanthost import inspection
from quanthost.stages.records import CalibratedModel

pytestmark = pytest.mark.slow

IMAGE = (4, 16, 24, 24)
# how far each draw reaches beyond what calibration saw, and where its middle lies
DRAWS = ((1.0, 0.0), (1.5, 0.5), (0.5, -0.5), (3.0, 0.0))


def _case(module: nn.Module, *shapes: tuple[int, ...]) -> Case:
    inputs = tuple(torch.randn(shape) * (1 + number) + 0.3 for number, shape in enumerate(shapes))
    return Case(row="", module=module.eval(), inputs=inputs)


def _layers() -> Iterator[Case]:
    yield _case(nn.Conv2d(16, 24, 3, padding=1), IMAGE)
    yield _case(nn.Sequential(nn.Conv2d(16, 24, 3, stride=2), nn.ReLU()), IMAGE)
    yield _case(nn.Sequential(nn.Conv2d(16, 24, 3, padding="same"), nn.ReLU6()), IMAGE)
    yield _case(nn.Conv2d(16, 16, 3, groups=16, padding=1), IMAGE)
    yield _case(nn.Conv2d(16, 16, 3, groups=4, dilation=2), IMAGE)
    yield _case(nn.Conv1d(16, 16, 5, padding=2), (4, 16, 200))
    yield _case(nn.ConvTranspose2d(16, 8, 3, stride=2, output_padding=1), IMAGE)
    yield _case(nn.ConvTranspose2d(16, 8, 2, groups=2), IMAGE)
    yield _case(nn.Linear(64, 48), (256, 64))
    yield _case(nn.Sequential(nn.Linear(2048, 48), nn.ReLU()), (2, 32, 2048))


def _two() -> Iterator[Case]:
    for function in (torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum):
        yield _case(Apply(function), IMAGE, IMAGE)
    yield _case(Apply(lambda a, b: torch.relu(a + b)), IMAGE, IMAGE)
    yield _case(Apply(lambda a, b: F.relu6(a * b)), IMAGE, IMAGE)
    yield _case(Apply(lambda a, b: torch.cat([a, b], 1)), IMAGE, IMAGE)


def _functions() -> Iterator[Case]:
    functions = (
        *(torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.abs, torch.neg, torch.square),
        *(torch.floor, torch.ceil, torch.sin, torch.cos, F.hardswish, F.hardsigmoid, F.elu, F.gelu),
    )
    for function in functions:
        yield _case(Apply(function), IMAGE)
    yield _case(Apply(lambda x: F.hardtanh(x, -0.5, 1.2)), IMAGE)
    yield _case(Apply(lambda x: F.leaky_relu(x, 0.1)), IMAGE)
    yield _case(nn.PReLU(16), IMAGE)


def _pools_and_movers() -> Iterator[Case]:
    # even counts have ties; a hundred channels of many images, for each gives one number
    for size in (4, 6, 7, 8):
        yield _case(nn.AdaptiveAvgPool2d(1), (100, 64, size, size))
    yield _case(Apply(lambda x: x.mean((2, 3), keepdim=True)), (100, 64, 8, 8))
    yield _case(nn.MaxPool2d(2), IMAGE)
    yield _case(nn.MaxPool2d(3, 2, 1), IMAGE)
    yield _case(nn.ZeroPad2d(1), IMAGE)
    yield _case(Apply(lambda x: x.flatten(1)), IMAGE)
    yield _case(Apply(lambda x: x.permute(0, 2, 3, 1)), IMAGE)
    yield _case(Apply(lambda x: x[:, 3:9]), IMAGE)


GROUPS = {"layers": _layers, "two": _two, "functions": _functions, "pools and movers": _pools_and_movers}


def _calibrated(name: str, recipe: str) -> tuple[CalibratedModel, list[tuple[Tensor, ...]]]:
    """The group's operators as branches of one model, and inputs for it."""
    torch.manual_seed(0)
    cases = list(GROUPS[name]())
    inputs = tuple(tensor for case in cases for tensor in case.inputs)
    captured = quanthost.capture(Branches(cases), inputs)
    prepared = quanthost.prepare(captured, "xnnpack_like", recipe, placement="all")
    draws = [
        tuple(torch.randn_like(tensor) * tensor.std() * reach + tensor.mean() + middle for tensor in inputs)
        for reach, middle in DRAWS
    ]
    return quanthost.calibrate(prepared, [inputs]), draws


@pytest.mark.parametrize("recipe", ["int8_static", "int8_static_per_tensor"])
@pytest.mark.parametrize("name", GROUPS)
def test_the_delegates_bits(name: str, recipe: str) -> None:
    """Of all operators, over a million integers a group, within and beyond the calibrated ranges."""
    calibrated, draws = _calibrated(name, recipe)
    golden = quanthost.convert(calibrated, "integer")
    program = quanthost.lower(quanthost.convert(calibrated), intermediates=True)

    comparison = inspection.compare_bits(golden, program, draws)

    assert program.record.outside == ()
    assert [d.form for d in golden.decisions if d.form is None or d.is_island] == []
    assert [d for d in comparison.operators if d.differing] == []
    assert comparison.equal
    assert comparison.not_shown == ()
    assert sum(d.elements for d in comparison.operators) > 1_000_000


def _spread(low: float, high: float) -> Tensor:
    """Values whose range, found by minimum and maximum, is known to the last bit."""
    return torch.linspace(low, high, IMAGE[1] * 1000).reshape(1, 1000, IMAGE[1], 1).transpose(1, 2)


def test_ties() -> None:
    """Scales whose ratio is one and a half: every other integer lies between two of the result's."""
    torch.manual_seed(0)
    cases = [
        Case(row="", module=Apply(torch.relu).eval(), inputs=(_spread(-1.0, 2.0),)),
        Case(row="", module=Apply(torch.abs).eval(), inputs=(_spread(-2.0, 1.0),)),
        Case(row="", module=Apply(lambda x: F.hardtanh(x, -2.0, 0.0)).eval(), inputs=(_spread(-2.0, 1.0),)),
        Case(row="", module=nn.PReLU(16, init=0.5).eval(), inputs=(_spread(-2.0, 1.0),)),
    ]
    inputs = tuple(tensor for case in cases for tensor in case.inputs)
    prepared = quanthost.prepare(quanthost.capture(Branches(cases), inputs), "xnnpack_like", placement="all")
    calibrated = quanthost.calibrate(prepared, [inputs]).with_estimator("minmax")
    program = quanthost.lower(quanthost.convert(calibrated), intermediates=True)

    comparison = inspection.compare_bits(quanthost.convert(calibrated, "integer"), program, [inputs])

    assert [d for d in comparison.operators if d.differing] == []
    assert comparison.equal


def test_the_qdq_form_has_others() -> None:
    """What the comparison is for: float between the integers differs here and there."""
    calibrated, draws = _calibrated("layers", "int8_static")
    program = quanthost.lower(quanthost.convert(calibrated), intermediates=True)

    comparison = inspection.compare_bits(quanthost.convert(calibrated), program, draws[:1])

    assert not comparison.equal
    assert {d.largest for d in comparison.operators} == {0.0, 1.0}


@pytest.mark.parametrize("name", part(list(GROUPS), 2))
def test_the_portable_program_is_the_eager_form(name: str) -> None:
    """Bit for bit, in kernels that know no delegate and, with integers at the ends, no float tensor."""
    calibrated, draws = _calibrated(name, "int8_static")
    golden = quanthost.convert(calibrated, "integer")

    program = quanthost.lower(golden, intermediates=True)
    comparison = inspection.compare_bits(golden, program, draws[:1])

    assert comparison.equal
    assert comparison.not_shown == ()
    assert program.record.pieces == ()
    assert _dtypes(quanthost.lower(golden, io="int8").buffer) <= {"CHAR", "BYTE", "INT", "LONG", "BOOL"}


def _dtypes(buffer: bytes) -> set[str]:
    """The datatypes of all tensors of a program."""
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.exir.schema import Tensor as Stored

    (plan,) = deserialize_pte_binary(buffer).program.execution_plan
    return {value.val.scalar_type.name for value in plan.values if isinstance(value.val, Stored)}
