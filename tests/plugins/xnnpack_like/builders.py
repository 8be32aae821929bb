"""A network for each row of the support table; a chooser picks its shapes and arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from kit import Case
from torch import Tensor, nn

__all__ = ["BUILDERS", "Apply", "Pick", "build", "first"]

Pick: TypeAlias = Callable[..., Any]
_Built: TypeAlias = tuple[nn.Module, tuple[Tensor, ...]]
_Builder: TypeAlias = Callable[[Pick], _Built]

BUILDERS: dict[str, _Builder] = {}

# rows that the decisions name, and rows that are claimed, where they are not the row itself: the edge graph
# has a mean instead of an adaptive pool, and a reshape of strided data as a copy and a view
_DECIDED = {"view_of_clone": ("permute", "view")}
_TAKEN = {"adaptive_avg_pool2d": ("mean",), "view_of_clone": ("permute", "view_of_clone")}


def first(*options: Any) -> Any:
    """The chooser that takes what a builder names first: the plain case."""
    return options[0]


def build(row: str, pick: Pick = first) -> Case:
    """A case of a row.

    Raises:
        KeyError: the row has no builder.
    """
    torch.manual_seed(0)
    module, inputs = BUILDERS[row](pick)
    decided = _DECIDED.get(row, (row,))
    return Case(
        row=row, module=module.eval(), inputs=inputs, decided=decided, taken=_TAKEN.get(row, decided),
        varies=pick is first,
    )  # fmt: skip


class Apply(nn.Module):
    """A function of some layers and of the inputs."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.layers, *inputs)


def _builds(*names: str) -> Callable[[_Builder], _Builder]:
    def register(builder: _Builder) -> _Builder:
        BUILDERS.update(dict.fromkeys(names, builder))
        return builder

    return register


def _tensor(pick: Pick, *shape: int, low: float = -3.0, high: float = 3.0) -> Tensor:
    """Values from ``low`` to ``high`` with both ends, contiguous or with other strides."""
    values = low + (high - low) * torch.rand(shape)
    values.view(-1)[0], values.view(-1)[-1] = low, high
    layout = pick("contiguous", "channels_last", "transposed")
    if layout == "channels_last" and len(shape) == 4:
        return values.contiguous(memory_format=torch.channels_last)
    if layout == "transposed" and len(shape) > 1:
        return values.transpose(-1, -2).contiguous().transpose(-1, -2)
    return values


def _shape(pick: Pick, *ranks: int) -> tuple[int, ...]:
    """A shape of one of the ranks; of any rank from 1 to 6, first 4, where none is given."""
    rank = pick(*(ranks or (4, 3, 2, 1, 5, 6)))
    return (pick(1, 2), pick(4, 3), pick(5, 6), pick(6, 7), 2, 3)[:rank] if rank > 1 else (pick(9, 6),)


_BOUNDS = (nn.Hardtanh(-0.5, 0.75), nn.ReLU6(), nn.Hardtanh(0.0, 0.4))


def _with_activations(name: str, builder: _Builder) -> None:
    """The row itself, and those in which an activation is fused."""

    def followed_by(*activations: nn.Module) -> _Builder:
        def fused(pick: Pick) -> _Built:
            module, inputs = builder(pick)
            activation = pick(*activations)
            return Apply(lambda inner, after, *xs: after(inner(*xs)), module, activation), inputs

        return fused

    BUILDERS[name] = builder
    BUILDERS[f"{name}_relu"] = followed_by(nn.ReLU())
    BUILDERS[f"{name}_hardtanh"] = followed_by(*_BOUNDS)


def _conv(pick: Pick) -> _Built:
    flat = pick(False, True)
    groups, per_group, out = pick((1, 3, 5), (1, 4, 8), (2, 2, 4), (4, 1, 4), (3, 1, 6), (1, 2, 1))
    layer = (nn.Conv1d if flat else nn.Conv2d)(
        groups * per_group, out, pick(3, 1, 2), stride=pick(1, 2), padding=pick(1, 0, 2), dilation=pick(1, 2),
        groups=groups, bias=pick(True, False),
    )  # fmt: skip
    size = (9,) if flat else (8, pick(7, 9))
    return layer, (_tensor(pick, pick(1, 2), groups * per_group, *size),)


def _conv_batch_norm(pick: Pick) -> _Built:
    layer, inputs = _conv(lambda *options: False if options == (False, True) else pick(*options))
    norm = nn.BatchNorm2d(layer.out_channels, momentum=1.0)  # type: ignore[arg-type]  # a number
    norm(layer(*inputs))
    # training leaves the statistics as the model has them
    norm.momentum = 0.0
    return nn.Sequential(layer, norm), inputs


def _conv_transpose(pick: Pick, groups: int = 1) -> _Built:
    flat = pick(False, True)
    per_group, out, stride = pick(3, 1, 4), groups * pick(2, 1, 3), pick(2, 1)
    extra = {"output_padding": stride - 1} if pick(True, False) else {"dilation": pick(1, 2)}
    layer = (nn.ConvTranspose1d if flat else nn.ConvTranspose2d)(
        groups * per_group, out, pick(3, 2), stride=stride, padding=pick(1, 0), groups=groups,
        bias=pick(True, False), **extra,
    )  # fmt: skip
    size = (6,) if flat else (5, pick(6, 5))
    return layer, (_tensor(pick, pick(1, 2), groups * per_group, *size),)


def _linear(pick: Pick) -> _Built:
    # a multiple of 32: groups of 4-bit weights need it
    features, out = pick(32, 64, 96), pick(6, 1, 5)
    leading = pick((3,), (1,), (2, 3), (2, 2, 3), ())
    return nn.Linear(features, out, bias=pick(True, False)), (_tensor(pick, *leading, features),)


_with_activations("conv", _conv)
_with_activations("conv_batch_norm", _conv_batch_norm)
_with_activations("conv_transpose", _conv_transpose)
_with_activations("conv_transpose_grouped", lambda pick: _conv_transpose(pick, pick(2, 3)))
_with_activations("linear", _linear)


@_builds("linear_weight_only")
def _linear_weight_only(pick: Pick) -> _Built:
    features = pick(16, 7)
    return nn.Linear(features, pick(6, 1), bias=pick(True, False)), (_tensor(pick, 3, features),)


@_builds("embedding_weight_only")
def _embedding(pick: Pick) -> _Built:
    rows, width = pick(10, 3), pick(8, 4)
    return nn.Embedding(rows, width), (torch.arange(rows).repeat(pick(1, 2)).reshape(pick(1, -1), -1),)


@_builds("mm")
def _mm(pick: Pick) -> _Built:
    rows, inner, columns = pick(3, 1), pick(5, 8), pick(4, 1)
    return Apply(torch.mm), (_tensor(pick, rows, inner), _tensor(pick, inner, columns))


@_builds("bmm")
def _bmm(pick: Pick) -> _Built:
    batch, rows, inner, columns = pick(2, 1), pick(3, 1), pick(5, 8), pick(4, 1)
    return Apply(torch.bmm), (_tensor(pick, batch, rows, inner), _tensor(pick, batch, inner, columns))


def _binary(function: Callable[[Tensor, Any], Tensor], low: float = -2.0) -> _Builder:
    """Two inputs, one broadcast to the other, one of them twice, or a constant or number as the second."""

    def builder(pick: Pick) -> _Built:
        shape = _shape(pick, 4, 3, 2, 1)
        kind = pick("equal", "channel", "last", "one", "twice", "constant", "number")
        left = _tensor(pick, *shape)
        if kind == "twice":
            return Apply(lambda x: function(x, x)), (left if low < 0 else left.abs() + low,)
        if kind == "number":
            return Apply(lambda x: function(x, 1.5)), (left,)
        right = _tensor(pick, *_operand(kind, shape), low=low, high=2.5)
        if kind == "constant":
            return _Constant(function, right), (left,)
        return Apply(function), (left, right)

    return builder


def _operand(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the second operand: the first one's, or one that is broadcast to it."""
    if kind == "channel" and len(shape) > 1:
        return (1, shape[1], *(1 for _ in shape[2:]))
    if kind == "last":
        return shape[-1:]
    return (1,) if kind == "one" else shape


class _Constant(nn.Module):
    """A function of the input and of a buffer."""

    held: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], held: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("held", held)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.held)


_with_activations("add", _binary(torch.add))
_with_activations("sub", _binary(torch.sub))
_with_activations("mul", _binary(torch.mul))
# a divisor that calibration and the run beyond it keep away from zero
BUILDERS["div"] = _binary(torch.div, low=0.5)


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> _Builder:
    def builder(pick: Pick) -> _Built:
        shape = _shape(pick, 4, 3, 2, 1)
        other = _operand(pick("equal", "channel", "last", "one"), shape)
        return Apply(function), (_tensor(pick, *shape), _tensor(pick, *other))

    return builder


BUILDERS["maximum"] = _extreme(torch.maximum)
BUILDERS["minimum"] = _extreme(torch.minimum)


def _unary(name: str, *modules: nn.Module, low: float = -4.0, high: float = 4.0) -> None:
    def builder(pick: Pick) -> _Built:
        return pick(*modules), (_tensor(pick, *_shape(pick), low=low, high=high),)

    BUILDERS[name] = builder


_unary("relu", nn.ReLU())
_unary(
    "hardtanh", nn.Hardtanh(), nn.ReLU6(), nn.Hardtanh(-2.0, 0.5), Apply(lambda x: x.clamp(min=-1.0)),
    Apply(lambda x: x.clamp(max=2.0)), Apply(lambda x: x.clamp(-1, 3)),
)  # fmt: skip
_unary("hardswish", nn.Hardswish())
_unary("gelu", nn.GELU())
_unary("elu", nn.ELU(), nn.ELU(alpha=0.5))
_unary("leaky_relu", nn.LeakyReLU(), nn.LeakyReLU(0.2), nn.LeakyReLU(-1.0))
_unary("abs", Apply(torch.abs))
_unary("neg", Apply(torch.neg))
_unary("floor", Apply(torch.floor))
_unary("ceil", Apply(torch.ceil))
_unary("exp", Apply(torch.exp), high=2.0)
_unary("sin", Apply(torch.sin))
_unary("cos", Apply(torch.cos))
_unary("sqrt", Apply(torch.sqrt), low=0.1)
_unary("rsqrt", Apply(torch.rsqrt), low=0.1)
_unary("log", Apply(torch.log), low=0.1)
_unary("sigmoid", nn.Sigmoid())
_unary("tanh", nn.Tanh())
_unary("square", Apply(torch.square), Apply(lambda x: x**2), Apply(lambda x: x**2.0))
_unary("softmax", Apply(lambda x: torch.softmax(x, -1)))
_unary("clone", Apply(lambda x: x.clone()))


@_builds("prelu")
def _prelu(pick: Pick) -> _Built:
    # of lower rank there is a reshape on each side
    shape = (pick(1, 2), pick(4, 3), pick(5, 6), pick(6, 7))
    layer = nn.PReLU(pick(shape[1], 1))
    nn.init.uniform_(layer.weight, 0.05, 0.6)
    return layer, (_tensor(pick, *shape),)


def _image(pick: Pick) -> Tensor:
    return _tensor(pick, pick(1, 2), pick(4, 3), pick(8, 9), pick(8, 7))


@_builds("max_pool2d")
def _max_pool2d(pick: Pick) -> _Built:
    layer = nn.MaxPool2d(
        pick(2, 3, (3, 2)), pick(None, 1, 2), pick(0, 1), dilation=pick(1, 2), ceil_mode=pick(False, True)
    )
    return layer, (_image(pick),)


@_builds("avg_pool2d")
def _avg_pool2d(pick: Pick) -> _Built:
    counted = pick(True, False)
    padding = 0 if counted else pick(0, 1)
    layer = nn.AvgPool2d(pick(2, 3, (3, 2)), pick(None, 1, 2), padding, count_include_pad=counted)
    return layer, (_image(pick),)


@_builds("adaptive_avg_pool2d")
def _adaptive_avg_pool2d(pick: Pick) -> _Built:
    return nn.AdaptiveAvgPool2d(pick(1, (1, 1))), (_image(pick),)


@_builds("mean")
def _mean(pick: Pick) -> _Built:
    dims = pick((2, 3), (-1, -2), (3, 2))
    return Apply(lambda x: x.mean(dims, keepdim=True)), (_image(pick),)


@_builds("max")
def _max(pick: Pick) -> _Built:
    reduce = pick(
        lambda x: x.max(2, keepdim=True)[0], lambda x: x.max(3, keepdim=True).values,
        lambda x: x.amax((2, 3), keepdim=True), lambda x: x.amax(-1, keepdim=True),
    )  # fmt: skip
    return Apply(reduce), (_image(pick),)


@_builds("upsample_bilinear2d")
def _upsample(pick: Pick) -> _Built:
    corners = pick(False, True)
    size = pick({"size": (9, 11)}, {"scale_factor": 2}, {"size": (3, 4)}, {"scale_factor": (1.5, 2.0)})
    return Apply(lambda x: F.interpolate(x, mode="bilinear", align_corners=corners, **size)), (_image(pick),)


@_builds("cat")
def _cat(pick: Pick) -> _Built:
    shape, count = _shape(pick, 4, 3, 2, 1), pick(2, 3, 4, 5, 6, 7, 11)
    dim = pick(*range(len(shape)), -1)
    inputs = tuple(_tensor(pick, *shape, low=-1.0 - i / 8, high=2.0 - i / 8) for i in range(count))
    return Apply(lambda *xs: torch.cat(xs, dim)), inputs


@_builds("pad")
def _pad(pick: Pick) -> _Built:
    shape = _shape(pick, 4, 3, 2, 5)
    amounts = pick((1, 2), (0, 3), (2, 1, 1, 0), (1, 0, 0, 1, 2, 1), (0, 0, 0, 0, 1, 2))[: 2 * len(shape)]
    return Apply(lambda x: F.pad(x, amounts)), (_tensor(pick, *shape),)


@_builds("slice")
def _slice(pick: Pick) -> _Built:
    shape = _shape(pick, 4, 3, 2)
    dim, part = pick(-1, *range(1, len(shape))), slice(*pick((1, 3), (0, -1), (-2, None), (1, 99)))
    return Apply(lambda x: x[(*(slice(None),) * (dim % x.dim()), part)]), (_tensor(pick, *shape),)


@_builds("view")
def _view(pick: Pick) -> _Built:
    shape = _shape(pick, 4, 3, 2)
    change = pick(
        lambda x: x.reshape(-1, 1, shape[-1]), lambda x: x.flatten(), lambda x: x.unsqueeze(-1),
        lambda x: x.reshape(1, shape[0], -1), lambda x: x[None].unsqueeze(2),
    )  # fmt: skip
    return Apply(change), (_tensor(lambda *options: options[0], *shape),)


@_builds("view_of_clone")
def _view_of_clone(pick: Pick) -> _Built:
    shape = _shape(pick, 4, 3)
    return Apply(lambda x: x.transpose(1, 2).reshape(shape[0], -1)), (_tensor(pick, *shape),)


@_builds("permute")
def _permute(pick: Pick) -> _Built:
    shape = _shape(pick, 4, 3, 2, 5)
    change = pick(
        lambda x: x.permute(*reversed(range(x.dim()))), lambda x: x.transpose(0, -1),
        lambda x: x.transpose(-1, -2), lambda x: x.permute(*range(1, x.dim()), 0),
    )  # fmt: skip
    return Apply(change), (_tensor(pick, *shape),)
