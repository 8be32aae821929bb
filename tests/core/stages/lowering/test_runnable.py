"""What the runtime has no kernel for is decomposed or refused while the program is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from flow_nets import BACKEND, rand
from torch import Tensor, nn
from torch.nn import functional as F

import quanthost
from quanthost.errors import LoweringError, ProgramError

pytestmark = pytest.mark.slow

Function: TypeAlias = Callable[..., Any]
MASK = torch.tensor([[1, 0, 1], [0, 1, 1]]).bool()


class Calls(nn.Module):
    """A function as a model."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def conv3d(x: Tensor) -> Tensor:
    return F.conv3d(x, torch.ones(1, 1, 2, 2, 2))


@pytest.mark.parametrize(
    ("function", "inputs", "seen"),
    [
        (conv3d, (rand(1, 1, 4, 4, 4),), "the kernel of convolution refuses"),
        (lambda x: F.max_pool3d(x, 2), (rand(1, 1, 4, 4, 4),), "no kernel for max_pool3d_with_indices"),
        (lambda x: torch.sort(x)[0], (rand(5),), "no kernel for sort"),
        (torch.median, (rand(5),), "no kernel for median"),
        (lambda x: torch.cummax(x, 0)[0], (rand(5),), "no kernel for cummax"),
        (lambda x: F.pad(x, (-1, -1)), (rand(2, 5),), "the kernel of constant_pad_nd refuses"),
        (torch.erfinv, (rand(2, 5),), "no kernel for erfinv"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused(
    function: Callable[..., Any], inputs: tuple[Tensor, ...], seen: str
) -> None:
    """Before there is a program: the operator, its line, and how to make the program all the same."""
    with pytest.raises(LoweringError) as caught:
        quanthost.quantize(Calls(function), inputs, BACKEND, "fp32")

    text = str(caught.value)
    assert seen in text
    assert "test_runnable.py:" in text
    assert "allow_missing_kernels=True" in text


@pytest.mark.parametrize("backend", ["int8_reference", "xnnpack_like"])
@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x: F.adaptive_max_pool2d(x, 2), (rand(1, 1, 4, 4),)),
        (lambda x: torch.bucketize(x, torch.tensor([0.0, 1.0])), (rand(5),)),
        (lambda x: torch.fft.rfft(x).abs(), (rand(8),)),
        (torch.nonzero, (MASK,)),
        (lambda mask: torch.where(mask)[0], (MASK,)),
        (lambda mask: torch.nonzero(mask) * 2, (MASK,)),
    ],
)  # fmt: skip
def test_what_can_run_is_right(
    function: Callable[..., Any], inputs: tuple[Tensor, ...], backend: str
) -> None:
    """Operators without a kernel, by others; and results that eager torch transposes."""
    program = quanthost.quantize(Calls(function), inputs, backend, "fp32")

    result, wanted = program.run(*inputs), function(*inputs)
    assert result.shape == wanted.shape
    assert torch.allclose(result, wanted, atol=1e-5)


def test_a_program_for_another_runtime() -> None:
    """It is made on request; its record says what is missing here, and running it says so too."""
    prepared = quanthost.prepare(quanthost.capture(Calls(torch.median), (rand(5),)), BACKEND, "fp32")
    converted = quanthost.convert(quanthost.calibrate(prepared, [(rand(5),)]))
    program = quanthost.lower(converted, allow_missing_kernels=True)

    assert program.record.missing_kernels == ("aten::median.out",)
    with pytest.raises(ProgramError, match=r"aten::median\.out"):
        program.run(rand(5))
