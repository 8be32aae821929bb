"""What the runtime has no kernel for is decomposed or refused while the program is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from flow_nets import BACKEND, rand
from torch import Tensor, nn
from torch.nn import functional as F
from whole import part

import quanthost
from quanthost.errors import LoweringError, ProgramError

pytestmark = pytest.mark.slow

Function: TypeAlias = Callable[..., Any]
SCALAR = torch.tensor(0.5)
MASK = torch.tensor([[1, 0, 1], [0, 1, 1]]).bool()


class Calls(nn.Module):
    """A function as a model."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("function", "inputs", "seen"),
    [
        (torch.erfinv, (rand(2, 5),), "no kernel for erfinv"),
        (torch.histc, (rand(2, 5),), "no kernel for histc"),
        (lambda x: torch.sort(x, stable=True)[0], (rand(3000),), "no kernel for sort"),
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


PLACES = torch.tensor([[0, 1, 2, 2], [1, 1, 2, 0]])
VOLUME = rand(2, 4, 5, 6, 7)
TEXT, BAGS = torch.tensor([1, 2, 4, 5, 4, 3, 2, 9]), torch.tensor([0, 3, 3, 7])


def embedding_bag(text: Tensor, bags: Tensor) -> Tensor:
    table = torch.arange(50, dtype=torch.float32).reshape(10, 5)
    return torch.cat([F.embedding_bag(text, table, bags, mode=mode) for mode in ("sum", "mean", "max")])


# (function, inputs)
RUNS: list[tuple[Function, tuple[Tensor, ...]]] = [
    (lambda x: F.adaptive_max_pool2d(x, 3), (rand(1, 1, 4, 7),)),
    (nn.Conv3d(4, 6, 3, stride=2, padding=1, groups=2), (VOLUME,)),
    (nn.ConvTranspose3d(4, 6, 3, stride=2, padding=1), (VOLUME,)),
    (lambda x: F.max_pool3d(x, 3, 2, 1), (VOLUME,)),
    (lambda x: F.avg_pool3d(x, 3, 2, 1, ceil_mode=True), (VOLUME,)),
    (lambda x: F.adaptive_avg_pool3d(x, (2, 3, 3)), (VOLUME,)),
    (lambda x: F.adaptive_max_pool3d(x, (2, 3, 3)), (VOLUME,)),
    (nn.LocalResponseNorm(3), (rand(2, 6, 5, 5),)),
    (embedding_bag, (TEXT, BAGS)),
    (nn.Bilinear(3, 4, 5), (rand(2, 3), rand(2, 4))),
    (lambda x: torch.sort(x, descending=True)[0], (rand(3, 20),)),
    (lambda x: torch.sort(x)[0], (rand(3000),)),
    (torch.median, (rand(5, 4),)),
    (lambda x: torch.cummax(x, 1)[1], (rand(2, 9),)),
    (lambda x: torch.cumprod(x, 1), (rand(2, 9),)),
    (lambda x: torch.searchsorted(torch.tensor([-1.0, 0.0, 0.5]), x), (rand(2, 9),)),
    (lambda x: F.pad(x, (-1, 2, 1, -2)), (rand(4, 5),)),
    (lambda x: torch.quantile(x, 0.3, dim=1), (rand(2, 9),)),
    (torch.remainder, (torch.tensor([5, -5, 7, -7]), torch.tensor([3, 3, -3, -3]))),
    (lambda x: torch.logsumexp(x, 0), (SCALAR,)),
    (lambda x: x.unfold(0, 1, 1), (SCALAR,)),
    (lambda x, i: torch.zeros(3, 4).scatter_reduce(0, i, x, "amax"), (rand(2, 4), PLACES)),
    (lambda x: torch.bucketize(x, torch.tensor([0.0, 1.0])), (rand(5),)),
    (lambda x: torch.fft.rfft(x).abs(), (rand(8),)),
    (torch.nonzero, (MASK,)),
    (lambda mask: torch.where(mask)[0], (MASK,)),
    (lambda mask: torch.nonzero(mask) * 2, (MASK,)),
]  # fmt: skip
# each with one of the backends first
BACKENDS = ("int8_reference", "xnnpack_like")
CASES = [(*each, BACKENDS[(i + j) % 2]) for i, each in enumerate(RUNS) for j in range(2)]


@pytest.mark.parametrize(("function", "inputs", "backend"), part(CASES, 2))
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
