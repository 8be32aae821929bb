"""One operator of each row as a step of a network, made for the shape that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from builders import Apply
from torch import Tensor, nn

from quanthost.api import Row
from quanthost_xnnpack_like.rows import TABLE

__all__ = ["STEPS", "representatives", "step"]

Shape: TypeAlias = tuple[int, ...]
_Maker: TypeAlias = Callable[[Shape], nn.Module]


def _of_image(maker: _Maker, smallest: int = 1) -> Callable[[Shape], nn.Module | None]:
    """A step that needs batch, channels, and a height and width of some size."""
    return lambda shape: maker(shape) if len(shape) == 4 and min(shape[2:]) >= smallest else None


def _plain(function: Callable[[Tensor], Tensor]) -> _Maker:
    return lambda _: Apply(function)


def _with_constant(function: Callable[[Tensor, Tensor], Tensor], low: float = -1.5) -> _Maker:
    """The second operand is a constant with a value for each channel."""

    def make(shape: Shape) -> nn.Module:
        channels = shape[1] if len(shape) > 1 else shape[0]
        values = torch.linspace(low, 2.5, channels)
        held = values.reshape(1, channels, *(1 for _ in shape[2:])) if len(shape) > 1 else values
        return _Held(function, held)

    return make


class _Held(nn.Module):
    held: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], held: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("held", held)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.held)


def _prelu(shape: Shape) -> nn.Module:
    return nn.PReLU(shape[1])


STEPS: dict[str, Callable[[Shape], nn.Module | None]] = {
    "conv": _of_image(lambda shape: nn.Conv2d(shape[1], shape[1], 3, padding=1)),
    "conv_transpose": _of_image(lambda shape: nn.ConvTranspose2d(shape[1], 4, 2, stride=1)),
    "conv_transpose_grouped": lambda shape: (
        nn.ConvTranspose2d(4, 4, 2, groups=2) if len(shape) == 4 and shape[1] == 4 else None
    ),
    "linear": lambda shape: nn.Linear(shape[-1], 6),
    "mm": lambda shape: Apply(lambda x: torch.mm(x, x.t())) if len(shape) == 2 else None,
    "bmm": lambda shape: Apply(lambda x: torch.bmm(x, x.transpose(1, 2))) if len(shape) == 3 else None,
    "add": _with_constant(torch.add),
    "sub": _with_constant(torch.sub),
    "mul": _with_constant(torch.mul),
    "div": _with_constant(torch.div, low=0.5),
    "maximum": _with_constant(torch.maximum),
    "minimum": _with_constant(torch.minimum),
    "relu": _plain(torch.relu),
    "hardtanh": _plain(lambda x: F.hardtanh(x, -0.75, 1.5)),
    "hardswish": _plain(F.hardswish),
    "gelu": _plain(F.gelu),
    "elu": _plain(F.elu),
    "leaky_relu": _plain(lambda x: F.leaky_relu(x, 0.1)),
    "abs": _plain(torch.abs),
    "neg": _plain(torch.neg),
    "floor": _plain(torch.floor),
    "ceil": _plain(torch.ceil),
    "exp": _plain(torch.exp),
    "sin": _plain(torch.sin),
    "cos": _plain(torch.cos),
    # of what may be negative: the root of its absolute value, and so on
    "sqrt": _plain(lambda x: torch.sqrt(x.abs() + 0.5)),
    "rsqrt": _plain(lambda x: torch.rsqrt(x.abs() + 0.5)),
    "log": _plain(lambda x: torch.log(x.abs() + 0.5)),
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "square": _plain(torch.square),
    "softmax": _plain(lambda x: torch.softmax(x, -1)),
    "prelu": _of_image(_prelu),
    "max_pool2d": _of_image(lambda _: nn.MaxPool2d(2, 1), 2),
    "avg_pool2d": _of_image(lambda _: nn.AvgPool2d(2, 1), 2),
    "max": _of_image(_plain(lambda x: x.amax(3, keepdim=True))),
    "mean": _of_image(_plain(lambda x: x.mean((2, 3), keepdim=True))),
    "adaptive_avg_pool2d": _of_image(lambda _: nn.AdaptiveAvgPool2d(1)),
    "upsample_bilinear2d": _of_image(_plain(lambda x: F.interpolate(x, size=(7, 5), mode="bilinear"))),
    "cat": _plain(lambda x: torch.cat([x, x], 1 if x.dim() > 1 else 0)),
    "pad": _plain(lambda x: F.pad(x, (1, 2))),
    "slice": _plain(lambda x: x[:, 1:3] if x.dim() > 1 else x[1:3]),
    "view": _plain(lambda x: x.flatten(1) if x.dim() > 2 else x.unsqueeze(0)),
    "view_of_clone": lambda shape: Apply(lambda x: x.transpose(1, 2).flatten(1)) if len(shape) > 2 else None,
    "permute": lambda shape: Apply(lambda x: x.permute(*range(1, x.dim()), 0)) if len(shape) > 1 else None,
    "clone": _plain(lambda x: x.clone()),
}
_ACTIVATIONS = {"relu": nn.ReLU, "hardtanh": lambda: nn.Hardtanh(-0.5, 0.75)}


def step(row: str, shape: Shape) -> nn.Module | None:
    """A module that does what a row is about to a tensor of that shape, ``None`` where it cannot.

    Raises:
        KeyError: the row has no step.
    """
    if row in STEPS:
        return STEPS[row](shape)
    base, _, activation = row.rpartition("_")
    inner = STEPS[base](shape)
    return None if inner is None else nn.Sequential(inner, _ACTIVATIONS[activation]())


def representatives(rows: list[str], each: int) -> list[str]:
    """Rows without those that host and delegate handle as ``each`` others before them.

    Two rows are handled alike where all but name, operator and kernel's name are equal; functions of one
    tensor such as ``sin`` and ``cos``.
    """
    kept: list[str] = []
    seen: dict[object, int] = {}
    for name in rows:
        kind = _kind(TABLE.row(name))
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= each:
            kept.append(name)
    return kept


def _kind(row: Row) -> object:
    return (
        *(row.roles, row.constraints, row.shares, row.qspecs, row.weight_axis, row.gain, row.kernels),
        *(row.size, row.pattern.captures(), bool(row.keeps)),
    )
