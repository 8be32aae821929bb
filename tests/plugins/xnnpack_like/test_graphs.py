"""Networks in which rows meet: residuals, tensors and weights used twice, branches, several results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import Apply
from judging import KERNELS, MOST_RELATIVE, compiled, lowered
from kit import Proof
from torch import Tensor, nn

from quanthost.api import Kernel
from quanthost.values import Verdict

pytestmark = pytest.mark.slow

SHAPE = (2, 4, 6, 6)
# a step of an inner result may become one more behind the next layers
MOST_STEPS = 2.001


def _conv(*, out: int = 4, channels: int = 4, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 1, **options)


def _residual(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    return torch.relu(second(torch.relu(first(x))) + x)


def _inverted(widen: nn.Module, deep: nn.Module, narrow: nn.Module, x: Tensor) -> Tensor:
    inner = narrow(F.relu6(deep(F.relu6(widen(x)))))
    return x + inner


def _gate(conv: nn.Module, squeeze: nn.Module, x: Tensor) -> Tensor:
    made = conv(x)
    return made * torch.sigmoid(squeeze(made.mean((2, 3), keepdim=True)))


def _pools(conv: nn.Module, mix: nn.Module, x: Tensor) -> Tensor:
    made = conv(x)
    return mix(torch.cat([made.mean((2, 3), keepdim=True), made.amax((2, 3), keepdim=True)], 1))


def _shuffle(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    return torch.cat([first(left), second(right)], 1).view(2, 2, 2, 6, 6).transpose(1, 2).reshape(2, 4, 6, 6)


def _attend(conv: nn.Module, mix: nn.Module, x: Tensor) -> Tensor:
    return mix(conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: Apply(_residual, _conv(), _conv()),
    "inverted-residual": lambda: Apply(
        _inverted, _conv(out=8), nn.Conv2d(8, 8, 3, padding=1, groups=8), _conv(channels=8)
    ),
    "x+x": lambda: Apply(lambda conv, x: (lambda h: h + h)(conv(x)), _conv()),
    "x*x": lambda: Apply(lambda conv, x: (lambda h: torch.mul(h, h))(conv(x)), _conv()),
    "gate": lambda: Apply(_gate, _conv(), _conv()),
    "two-pools": lambda: Apply(_pools, _conv(), _conv(channels=8)),
    "branches-to-cat": lambda: Apply(
        lambda a, b, x: b(torch.cat([a(x), F.max_pool2d(x, 3, 1, 1), x], 1)), _conv(), _conv(channels=12)
    ),
    "shuffle": lambda: Apply(_shuffle, _conv(channels=2, out=2), _conv(channels=2, out=2)),
    "one-layer-twice": lambda: Apply(lambda conv, x: conv(torch.relu(conv(x))), _conv()),
    "one-linear-twice": lambda: Apply(lambda layer, x: layer(F.gelu(layer(x))), nn.Linear(6, 6)),
    "numbers": lambda: Apply(lambda a, b, x: b(1 - (a(x) * 2 + 0.5)), _conv(), _conv()),
    "two-results": lambda: Apply(lambda a, x: (lambda h: (h, torch.relu(h), -h))(a(x)), _conv()),
    "deep-result": lambda: Apply(lambda a, b, x: (lambda h: (h, b(h)))(a(x)), _conv(), _conv()),
    "flatten": lambda: nn.Sequential(_conv(), nn.Hardswish(), nn.Flatten(), nn.Linear(144, 5)),
    "channels-behind": lambda: Apply(_attend, _conv(), nn.Linear(4, 4)),
    "pad": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 3, 2), nn.LeakyReLU(0.1)),
    "deconvolution": lambda: nn.Sequential(
        nn.ConvTranspose2d(4, 6, 2, 2, groups=2), nn.PReLU(6), _conv(channels=6)
    ),
    "norm-alone": lambda: nn.Sequential(_conv(), nn.Tanh(), nn.BatchNorm2d(4), _conv()),
    "one-dimension": lambda: Apply(
        lambda a, b, x: b(F.elu(a(x.flatten(2)))), nn.Conv1d(4, 6, 3, padding=1), nn.Conv1d(6, 2, 5, stride=2)
    ),
    "slices": lambda: Apply(lambda a, x: (lambda h: h[:, :2] - h[:, 2:])(a(x)), _conv()),
}


def _input(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 5 - 2


def _problems(proof: Proof, recipe: str, edges: int, calls: Any) -> Iterator[str]:
    kernel = KERNELS[recipe]
    yield from compiled(proof, kernel, calls, edges)
    # a step of a wide tensor is several of a narrow one that is made of it
    widest = max(output.scale or 0.0 for output in proof.outputs)
    for output in proof.outputs:
        if kernel is Kernel.STATIC and output.scale is None:
            yield "a result is not quantized"
        elif output.scale is not None and output.lsb * output.scale > MOST_STEPS * widest:
            yield f"{output.lsb:.1f} steps off the q/dq form"
        if kernel is Kernel.FLOAT and not output.relative <= MOST_RELATIVE:
            yield f"{output.relative:.1e} of the largest value off the model"
    yield from (f"{o.sqnr:.0f} dB from the model" for o in proof.runs[0] if not o.sqnr >= 15)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("recipe", ["int8_static", "fp32"])
def test_network(name: str, recipe: str) -> None:
    """One piece, of one arithmetic; conversions only of the inputs and results."""
    torch.manual_seed(3)
    model = NETWORKS[name]().eval()
    x = _input(*SHAPE)
    made = model(x)

    proof, calls = lowered(model, [x], recipe, placement="all")

    assert list(_problems(proof, recipe, 1 + (len(made) if isinstance(made, tuple) else 1), calls)) == []
    assert len(proof.program.record.pieces) == 1
    if recipe == "int8_static":
        assert [d.reason for d in proof.decisions if d.verdict is Verdict.FLOAT] == []
