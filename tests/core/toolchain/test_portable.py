"""A partition as a program of portable kernels: in floats, and in the integers of a profile."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from executorch.exir.backend.backend_details import BackendDetails, PreprocessResult
from torch import Tensor, nn

import quanthost
from quanthost.api import (
    FP32_HALF_EVEN,
    GEMMLOWP,
    ArithmeticProfile,
    BackendInfo,
    DType,
    Gain,
    Kernel,
    LoweringOptions,
    QSpec,
    Recipe,
    Role,
    Row,
    SupportTable,
    TableBackend,
    compile_portable,
    execute_portable,
    op,
    simulated_runner,
)
from quanthost.hooks.manager import Plugins
from quanthost.stages.lowering.lower import lower
from quanthost.stages.preparing.prepare import prepare
from quanthost.values import Request

DELEGATE = "IntegerNpu"


class IntegerNpu(BackendDetails):  # type: ignore[misc]  # executorch is untyped
    """Computes in the integers of a profile."""

    arithmetic: ArithmeticProfile = FP32_HALF_EVEN

    @staticmethod
    def preprocess(edge_program: Any, compile_specs: list[Any]) -> PreprocessResult:
        return PreprocessResult(processed_bytes=compile_portable(edge_program, IntegerNpu.arithmetic))


_CONV = op("conv2d", "convolution", input="input", weight="weight", bias="bias?")
_ROW = Row(
    name="conv", pattern=_CONV, kernels={Kernel.STATIC}, gain=Gain.DRIVES,
    roles={"weight": Role.WEIGHT, "bias": Role.BIAS},
)  # fmt: skip
BACKEND = TableBackend(
    info=BackendInfo(
        name="integer",
        recipes=[
            Recipe(
                name="int8_static", kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8),
                weight=QSpec(dtype=DType.INT8, quant_min=-127),
            )
        ],
        runtime=DELEGATE,
    ),
    table=SupportTable([_ROW, attrs.evolve(_ROW, name="conv_relu", pattern=op("relu", self=_CONV))]),
    delegate=DELEGATE,
    lowering=LoweringOptions(runtime_modules=("executorch.kernels.quantized",)),
)  # fmt: skip


def _program_and_golden(images: Tensor, profile: ArithmeticProfile, shapes: Any = None) -> tuple[Any, Any]:
    """What runs the lowered program on a list of inputs, and the golden form."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()
    captured = quanthost.capture(model, (images,), dynamic_shapes=shapes)
    prepared = prepare(
        captured, Plugins([("integer", BACKEND)]), Request(backends="integer", recipe="int8_static")
    )
    calibrated = quanthost.calibrate(prepared, [(images,)])
    IntegerNpu.arithmetic = profile
    program = lower(quanthost.convert(calibrated))
    runner = simulated_runner(program.buffer, program.record.pieces, {DELEGATE: execute_portable})
    assert runner is not None
    return runner, quanthost.convert(calibrated, "integer", profile).module


@pytest.mark.parametrize("profile", [FP32_HALF_EVEN, GEMMLOWP], ids=lambda profile: profile.name)
def test_integers_are_those_of_the_golden_form(profile: ArithmeticProfile) -> None:
    """Bit by bit over ten thousand results, some so near a tie that the order of a float sum would decide."""
    images = torch.randn(2, 16, 28, 28, generator=torch.Generator().manual_seed(1))
    runner, golden = _program_and_golden(images, profile)

    assert torch.equal(runner([images])[0], golden(images))


def test_sizes_may_vary() -> None:
    """A batch that was left open runs at other sizes, with the same integers."""
    images = torch.randn(2, 16, 9, 9, generator=torch.Generator().manual_seed(1))
    shapes = ({0: torch.export.Dim("batch", min=1, max=8)},)
    runner, golden = _program_and_golden(images, FP32_HALF_EVEN, shapes)
    more = torch.cat([images, -images, images / 2])[:5]

    assert torch.equal(runner([more])[0], golden(more))
