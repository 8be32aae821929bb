"""A module for each row of the support table, in its plain and its unusual forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from kit import Case
from torch import Tensor, nn

__all__ = ["cases"]

_Function = Callable[..., Any]


class _Apply(nn.Module):
    """A function of the inputs, after the layers it is given."""

    def __init__(self, function: _Function, *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.layers, *inputs)


class _Weight(nn.Module):
    """A function of the input, of a weight ``[8, 5]`` and of a bias ``[5]``."""

    def __init__(self, function: _Function) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(8, 5))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.weight, self.bias)


def _input(*shape: int) -> Tensor:
    return torch.rand(shape) * 6 - 3


def _case(row: str, module: nn.Module, *inputs: Tensor) -> Case:
    return Case(row=row, module=module.eval(), inputs=inputs)


def _of(row: str, function: _Function, *inputs: Tensor) -> Case:
    return _case(row, _Apply(function), *inputs)


def _clamped(row: str, module: nn.Module, *inputs: Tensor) -> list[Case]:
    """The row alone and with the activations that it fuses."""
    return [
        _case(row, module, *inputs),
        _case(f"{row}_relu", _Apply(lambda m, *x: F.relu(m(*x)), module), *inputs),
        _case(f"{row}_relu6", _Apply(lambda m, *x: F.relu6(m(*x)), module), *inputs),
    ]


def _convolutions() -> list[Case]:
    image, line = _input(1, 4, 7, 8), _input(2, 4, 9)
    return [
        *_clamped("conv", nn.Conv2d(4, 6, 3, padding=1), image),
        _case("conv", nn.Conv2d(4, 6, 3, stride=2, bias=False), image),
        _case("conv", nn.Conv2d(4, 8, 3, groups=4), image),
        _case("conv", nn.Conv2d(4, 6, 3, groups=2, padding="same"), image),
        _case("conv", nn.Conv2d(4, 3, 2, dilation=2), image),
        _case("conv", nn.Conv1d(4, 5, 3, stride=2), line),
        *_clamped("conv_transpose", nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1), image),
        _case("conv_transpose", nn.ConvTranspose1d(4, 3, 2, bias=False), line),
        *_clamped("conv_transpose_grouped", nn.ConvTranspose2d(4, 6, 3, groups=2), image),
    ]


def _products() -> list[Case]:
    rows = _input(3, 8)
    return [
        *_clamped("linear", nn.Linear(8, 5), _input(2, 3, 8)),
        _case("linear", nn.Linear(8, 1, bias=False), rows),
        *_clamped("addmm", _Weight(lambda x, w, b: torch.addmm(b, x, w)), rows),
        *_clamped("matmul_weight", _Weight(lambda x, w, _: x @ w), _input(2, 3, 8)),
        _case("matmul_weight", _Weight(lambda x, w, _: torch.mm(x, w)), rows),
        _of("matmul", torch.matmul, _input(2, 2, 3, 4), _input(2, 2, 4, 5)),
        _of("matmul", torch.mm, rows, _input(8, 2)),
        _of("matmul", torch.bmm, _input(2, 3, 4), _input(2, 4, 3)),
    ]


def _arithmetic() -> list[Case]:
    first, second = _input(2, 3, 4), _input(3, 1)
    functions = {"add": torch.add, "sub": torch.sub, "mul": torch.mul}
    found: list[Case] = []
    for name, function in functions.items():
        found += _clamped(name, _Apply(function), first, second)
        found += _clamped(f"{name}_number", _Apply(lambda x, f=function: f(x, 1.5)), first)
    divisor = torch.linspace(0.8, 2.5, 3).reshape(3, 1)
    return [
        *found, *_clamped("div", _Apply(torch.div), first, divisor),
        *_clamped("div_number", _Apply(lambda x: x / 1.5), first), _of("add", lambda x: x + x, first),
    ]  # fmt: skip


def _activations() -> list[Case]:
    x = _input(2, 3, 5) * 2
    functions: dict[str, _Function] = {
        "relu": F.relu,
        "hardswish": F.hardswish,
        "gelu": F.gelu,
        "elu": F.elu,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
        "sigmoid": torch.sigmoid,
        "hardsigmoid": F.hardsigmoid,
        "softmax": lambda x: x.softmax(-1),
        "tanh": torch.tanh,
    }
    bounded: tuple[_Function, ...] = (F.relu6, lambda x: F.hardtanh(x, -2, 2), lambda x: x.clamp(-1.0, 4.0))
    return [
        *(_of(row, function, x) for row, function in functions.items()),
        *(_of("hardtanh", function, x) for function in bounded),
        _of("gelu", lambda x: F.gelu(x, approximate="tanh"), x),
        _of("softmax", lambda x: x.softmax(1), x),
    ]


def _pools() -> list[Case]:
    image, line = _input(1, 3, 8, 6), _input(2, 3, 8)
    return [
        _of("max_pool", lambda x: F.max_pool2d(x, 2), image),
        _of("max_pool", lambda x: F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True), image),
        _of("max_pool", lambda x: F.max_pool1d(x, 2), line),
        _of("avg_pool", lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), image),
        _of("avg_pool", lambda x: F.avg_pool2d(x, 2, 2, 1, ceil_mode=True, count_include_pad=False), image),
        _of("avg_pool", lambda x: F.avg_pool1d(x, 2), line),
        _of("avg_pool", lambda x: F.avg_pool1d(x, 2, 2, 1, count_include_pad=False), line),
        _of("avg_pool", lambda x: F.adaptive_avg_pool1d(x, 5), line),
        _of("avg_pool", lambda x: F.adaptive_avg_pool2d(x, 1), image),
        _of("avg_pool", lambda x: F.adaptive_avg_pool2d(x, (2, 3)), image),
        _of("mean", lambda x: x.mean((2, 3)), image),
        _of("mean", lambda x: x.mean(-1, keepdim=True), line),
        _of("mean", lambda x: x.mean(), line),
        _of("upsample_nearest", lambda x: F.interpolate(x, scale_factor=2), image),
    ]


def _movers() -> list[Case]:
    image, line = _input(1, 3, 8, 6), _input(2, 3, 8)
    return [
        _of("cat", lambda x, y: torch.cat([x, y], 1), line, _input(2, 1, 8) * 2),
        _of("stack", lambda x, y: torch.stack([x, y]), line, _input(2, 3, 8) * 2),
        _of("pad", lambda x: F.pad(x, (1, 2)), line),
        _of("pad", lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), image),
        _of("pad", lambda x: F.pad(x, (1, 1), mode="replicate"), line),
        _of("view", lambda x: x.view(6, 8), line),
        _of("view", lambda x: x.reshape(2, -1), line),
        _of("view", lambda x: x.flatten(1), line),
        _of("view", lambda x: x.unflatten(2, (2, 4)), line),
        _of("squeeze", lambda x: x.squeeze(0), image),
        _of("unsqueeze", lambda x: x.unsqueeze(1), line),
        _of("permute", lambda x: x.permute(2, 0, 1), line),
        _of("permute", lambda x: x.transpose(1, 2), line),
        _of("slice", lambda x: x[:, 1:, ::2], line),
        _of("select", lambda x: x[:, 1], line),
        _of("expand", lambda x: x.expand(4, 3, 8, 6), image),
        _of("copy", lambda x: x.clone(), line),
        _of("dropout", lambda x: F.dropout(x, training=False), line),
        _of("slice", lambda x: x.split(2, 1), line),
        _of("slice", lambda x: x.chunk(2, -1)[1], line),
        _of("slice", lambda x: torch.split(x, [1, 5, 2], -1)[1], line),
    ]


def _functions() -> list[Case]:
    x, other = _input(2, 3, 5) * 2, _input(2, 3, 5)
    positive = other.abs() + 0.5
    smooth = ("exp", "abs", "neg", "sin", "cos", "erf", "square")
    return [
        *(_of(name, getattr(torch, name), positive) for name in ("log", "sqrt", "rsqrt", "reciprocal")),
        *(_of(name, getattr(torch, name), x) for name in smooth),
        *(_of(name, getattr(F, name), x) for name in ("silu", "mish", "softplus")),
        # at whole numbers a step of the input is a step of one
        *(_of(name, getattr(torch, name), torch.arange(-3.0, 3.0) + 0.5) for name in ("floor", "ceil")),
        _of("square", lambda x: x**3, x),
        _case("prelu", nn.PReLU(3), x),
        _case("layer_norm", nn.LayerNorm(5), x),
        _of("layer_norm", lambda x: F.layer_norm(x, (3, 5)), x),
        *(_of(f.__name__, f, x, other) for f in (torch.maximum, torch.minimum)),
    ]


def cases() -> list[Case]:
    """All cases, the same in every run."""
    torch.manual_seed(0)
    return [
        *_convolutions(),
        *_products(),
        *_arithmetic(),
        *_activations(),
        *_pools(),
        *_movers(),
        *_functions(),
    ]
