"""Networks from outside the support tables: what they are made of runs, as with ExecuTorch's own lowering."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from proof import rand
from torch import Tensor, nn
from torch.nn import functional as F

import quanthost

pytestmark = pytest.mark.slow


class WithConstant(nn.Module):
    """A function of the input and of one parameter or buffer."""

    def __init__(self, constant: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.constant, self.function = constant, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.constant)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(rand(*shape, seed=3))


def grey(*shape: int) -> Tensor:
    """A picture ``[N, 1, H, W]`` whose channel was the last dimension."""
    batch, height, width = shape
    return rand(batch, height, width, 1).permute(0, 3, 1, 2)


class Resized(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode=self.mode)


NETWORKS: dict[str, tuple[nn.Module, Tensor]] = {
    "product": (WithConstant(parameter(8, 5), lambda x, w: x @ w), rand(3, 8)),
    "adapter": (
        nn.Sequential(nn.Linear(8, 8), WithConstant(parameter(8, 5), lambda x, w: x @ w)), rand(3, 8)
    ),
    "tied embedding": (WithConstant(parameter(20, 8), lambda x, w: x @ w.t()), rand(2, 3, 8)),
    "no bias": (WithConstant(parameter(20, 8), lambda x, w: F.linear(x, w, None)), rand(2, 3, 8)),
    "instance norm 1d": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.InstanceNorm1d(4)), rand(2, 3, 9)),
    "instance norm 2d": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True)), rand(2, 3, 9, 9)
    ),
    "instance norm 3d": (nn.InstanceNorm3d(3), rand(2, 3, 5, 6, 7)),
    "bicubic": (Resized("bicubic"), rand(1, 3, 6, 6)),
    "trilinear": (Resized("trilinear"), rand(1, 3, 4, 4, 4)),
    "grey picture": (nn.Conv2d(1, 4, 3), grey(1, 7, 5)),
    "two grey pictures": (nn.Conv2d(1, 4, 3), grey(2, 7, 5)),
    "one pixel": (nn.Conv2d(4, 4, 1), rand(2, 1, 1, 4).permute(0, 3, 1, 2)),
    "grey buffer": (WithConstant(grey(1, 7, 5), lambda x, b: x + b), rand(2, 1, 7, 5)),
    "numpy's dimension": (nn.Conv2d(3, 4, 3), torch.from_numpy(rand(3, 7, 5).numpy()[None])),
    "expanded": (nn.Conv2d(3, 4, 3), rand(1, 1, 7, 5).expand(2, 3, 7, 5)),
}  # fmt: skip


class Together(nn.Module):
    """All networks as branches of one, since each capture and lowering costs as much as a network."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(network for network, _ in NETWORKS.values())

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [network(x) for network, x in zip(self.networks, inputs)]


@pytest.mark.parametrize(
    ("backend", "recipe"),
    [
        ("xnnpack_like", "fp32"), ("xnnpack_like", "int8_static"), ("xnnpack_like", "int8_dynamic"),
        ("int8_reference", "int8_static"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_they_run(backend: str, recipe: str) -> None:
    """Each is near the model, also with inputs in the standard layout."""
    torch.manual_seed(0)
    model, inputs = Together().eval(), tuple(x for _, x in NETWORKS.values())
    program = quanthost.quantize(model, inputs, backend, recipe, [inputs])

    results = program.run(*inputs)
    for name, result, wanted in zip(NETWORKS, results, model(*inputs)):
        noise = (result - wanted).norm() / wanted.norm()
        assert noise <= (1e-5 if recipe == "fp32" else 0.03), name
    standard = (x.clone(memory_format=torch.contiguous_format) for x in inputs)
    assert all(map(torch.equal, results, program.run(*standard)))
    if recipe == "int8_static":
        upstream = quanthost.quantize(model, inputs, backend, recipe, [inputs], toolchain="upstream")
        assert all(map(torch.equal, results, upstream.run(*inputs)))
