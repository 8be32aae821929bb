"""For each constraint of the support table, networks on both sides of its edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from builders import Apply
from torch import Tensor, nn
from torch.export import Dim

from quanthost.api import Constraint, alpha_is_one, grouped, not_grouped
from quanthost_xnnpack_like import constraints as c
from quanthost_xnnpack_like import layout
from quanthost_xnnpack_like import windows as w

__all__ = ["EDGES", "Edge", "Side"]


@attrs.frozen(kw_only=True, eq=False)
class Side:
    """A network with inputs, in a recipe; ``dynamic`` are the dimensions of the first that may vary."""

    recipe: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    dynamic: tuple[int, ...] = ()

    @property
    def shapes(self) -> Iterator[dict[int, Any]]:
        """``dynamic_shapes`` of each input."""
        yield dict.fromkeys(self.dynamic, Dim.DYNAMIC)
        yield from ({} for _ in self.inputs[1:])


@attrs.frozen(kw_only=True, eq=False)
class Edge:
    """A network that a row just takes, and one that it just refuses, with the reason.

    ``instead`` is the row that takes the refused one, where two rows share a pattern.
    """

    constraint: Constraint
    row: str
    accepted: Side
    refused: Side
    reason: str
    instead: str | None = None

    def __str__(self) -> str:
        return f"{self.row}: {self.reason}"


def _values(*shape: int) -> Tensor:
    count = torch.Size(shape).numel()
    generator = torch.Generator().manual_seed(count)
    return torch.linspace(-2.0, 3.0, count)[torch.randperm(count, generator=generator)].reshape(shape)


IMAGE, LINE, MATRIX = (2, 4, 6, 6), (2, 4, 9), (3, 32)
_Function = Callable[..., Any]


def _side(recipe: str, module: nn.Module | _Function, *inputs: Tensor, dynamic: tuple[int, ...] = ()) -> Side:
    made = module if isinstance(module, nn.Module) else Apply(module)
    return Side(recipe=recipe, module=made.eval(), inputs=inputs, dynamic=dynamic)


def _edge(
    constraint: Constraint,
    row: str,
    recipe: str,
    accepted: nn.Module | _Function,
    refused: nn.Module | _Function,
    reason: str,
    *,
    shape: tuple[int, ...] = IMAGE,
    other: tuple[int, ...] | None = None,
    instead: str | None = None,
) -> Edge:
    """Both sides in one recipe; ``other`` is the refused one's input shape where it is another."""
    return Edge(
        constraint=constraint, row=row, reason=reason, instead=instead,
        accepted=_side(recipe, accepted, _values(*shape)),
        refused=_side(recipe, refused, _values(*(shape if other is None else other))),
    )  # fmt: skip


class _Convolution(nn.Module):
    """``torch.convolution``, which is both kinds."""

    def __init__(self, *, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        self.weight = nn.Parameter(torch.randn(4, 4, 2, 2))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        one, none = [1, 1], [0, 0]
        return torch.convolution(x, self.weight, self.bias, one, none, one, self.transposed, none, 1)


def _conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, **options)


def _pair(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.clone(), torch.relu(x)


def _read_twice(conv: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    return conv(x), torch.relu(x)


_WINDOWS = (
    _edge(w.no_transposition, "conv", "int8_static", _Convolution(), _Convolution(transposed=True),
          "it is a transposed convolution", instead="conv_transpose"),
    _edge(w.transposition, "conv_transpose", "int8_static", _Convolution(transposed=True), _Convolution(),
          "it is no transposed convolution", instead="conv"),
    _edge(not_grouped, "conv_transpose", "int8_static", nn.ConvTranspose2d(4, 4, 2),
          nn.ConvTranspose2d(4, 4, 2, groups=2), "groups is 2", instead="conv_transpose_grouped"),
    _edge(grouped, "conv_transpose_grouped", "int8_static", nn.ConvTranspose2d(4, 4, 2, groups=2),
          nn.ConvTranspose2d(4, 4, 2), "groups is 1", instead="conv_transpose"),
    _edge(w.conv_has_kernel, "conv", "int8_static", _conv(), _conv(), "there is no batch dimension",
          other=(4, 6, 6)),
    _edge(w.conv_has_kernel, "conv_transpose", "int8_static", nn.ConvTranspose2d(4, 4, 2, 2, dilation=2),
          nn.ConvTranspose2d(4, 4, 2, 2, dilation=2, output_padding=1),
          "output padding together with dilation"),
    _edge(w.pads_both_sides, "conv", "int8_static", nn.Conv2d(4, 4, (3, 5), padding="same"),
          nn.Conv2d(4, 4, (3, 4), padding="same"), "adds [2, 3], one more behind"),
    _edge(w.plain_2d, "conv", "int8_dynamic", nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, groups=4),
          "no depthwise convolution"),
    Edge(constraint=w.plain_2d, row="conv", reason="2-d convolutions only",
         accepted=_side("int8_dynamic", nn.Conv2d(4, 4, (1, 3)), _values(2, 4, 1, 9)),
         refused=_side("int8_dynamic", nn.Conv1d(4, 4, 3), _values(*LINE))),
    _edge(w.pool_window, "max_pool2d", "int8_static", nn.MaxPool2d(2, 2), nn.MaxPool2d(2, 3),
          "the stride (3, 3) exceeds the window (2, 2)"),
    _edge(w.pool_window, "max_pool2d", "int8_static", nn.MaxPool2d(2), nn.MaxPool2d(2),
          "the input has rank 3, not 4", other=(4, 6, 6)),
    _edge(w.maximum_over_height_or_width, "max", "int8_static", lambda x: x.max(2, keepdim=True)[0],
          lambda x: x.max(1, keepdim=True)[0], "it runs over dimension 1"),
    _edge(w.maximum_over_height_or_width, "max", "int8_static", lambda x: x.max(3, keepdim=True)[0],
          lambda x: x.max(2, keepdim=True)[0], "the input has rank 3, not 4", other=(4, 6, 6)),
    _edge(w.mean_over_height_and_width, "mean", "int8_static", lambda x: x.mean((3, 2), keepdim=True),
          lambda x: x.mean((1, 2), keepdim=True), "it averages over [1, 2]"),
    _edge(w.mean_over_height_and_width, "mean", "int8_static", lambda x: x.mean((2, 3), keepdim=True),
          lambda x: x.mean((1, 2), keepdim=True), "the input has rank 3, not 4", other=(4, 6, 6)),
    _edge(w.unit_output, "adaptive_avg_pool2d", "int8_static", nn.AdaptiveAvgPool2d((1, 1)),
          nn.AdaptiveAvgPool2d((1, 2)), "the output size is (1, 2), the delegate has 1×1"),
    _edge(w.average_of_plain_window, "avg_pool2d", "fp32", nn.AvgPool2d(2, 1),
          nn.AvgPool2d(4, 3, ceil_mode=True), "ceil mode"),
    _edge(w.average_of_plain_window, "avg_pool2d", "fp32", nn.AvgPool2d(2, 1, 1, count_include_pad=False),
          nn.AvgPool2d(2, 1, 1), "padding that is counted in the average"),
    _edge(w.average_of_plain_window, "avg_pool2d", "fp32", nn.AvgPool2d(2, divisor_override=4),
          nn.AvgPool2d(2, divisor_override=3), "the divisor 3 instead of 4"),
)  # fmt: skip

_LAYOUTS = (
    _edge(layout.contiguous, "softmax", "fp32", nn.Sequential(nn.Linear(6, 5), nn.Softmax(-1)),
          nn.Sequential(_conv(), nn.Softmax(-1)), "the delegate holds the input channels-last"),
    _edge(layout.reads_alone, "conv", "int8_dynamic", _conv(), Apply(_read_twice, _conv()),
          "has other readers, which would read it channels-last"),
    _edge(layout.not_of_maximum, "relu", "int8_static", lambda x: torch.relu(torch.sin(x)),
          lambda x: torch.relu(F.max_pool2d(x, 2)), "and the runtime merges the two",
          instead="relu_of_maximum"),
    _edge(layout.of_maximum, "hardtanh_of_maximum", "int8_static",
          lambda x: F.hardtanh(x.max(2, keepdim=True)[0], -0.4, 0.9), lambda x: F.relu6(torch.sin(x)),
          "it reads no maximum of a window", instead="hardtanh"),
    _edge(c.copies_alone, "clone", "fp32", lambda x: x.clone(), _pair, "has 2 readers"),
)  # fmt: skip

_OTHERS = (
    _edge(c.float32, "relu", "int8_static", torch.relu, torch.relu, "input has rank 7, the delegate takes 1",
          shape=(1, 2, 1, 2, 2, 3), other=(1, 2, 1, 2, 2, 1, 3)),
    _edge(c.float32, "relu", "int8_static", torch.relu, torch.relu, "input has rank 0, the delegate takes 1",
          shape=(5,), other=()),
    Edge(constraint=c.float32, row="add", reason="input is float64",
         accepted=_side("int8_static", torch.add, _values(5), _values(5)),
         refused=_side("int8_static", torch.add, _values(5).double(), _values(5).double())),
    _edge(c.float32, "neg", "fp32", lambda x: -x[:, 3:], lambda x: -x[:, 4:], "is empty, shape (2, 0, 6, 6)"),
    Edge(constraint=c.float32_weight, row="embedding_weight_only", reason="the weight is float64",
         accepted=_side("int8_weight_only", nn.Embedding(8, 4), torch.tensor([[1, 7, 1]])),
         refused=_side("int8_weight_only", nn.Embedding(8, 4).double(), torch.tensor([[1, 7, 1]]))),
    Edge(constraint=c.no_groups, row="conv", reason="4-bit groups for linear layers only",
         accepted=_side("int8_dynamic", _conv(), _values(*IMAGE)),
         refused=_side("int4_group_dynamic", _conv(), _values(*IMAGE))),
    Edge(constraint=c.int4_groups_fit, row="linear", reason="33 input channels are no multiple of the group",
         accepted=_side("int4_group_dynamic", nn.Linear(32, 4), _values(3, 32)),
         refused=_side("int4_group_dynamic", nn.Linear(33, 4), _values(3, 33))),
    _edge(alpha_is_one, "sub", "int8_static", lambda x: torch.sub(x, x.relu(), alpha=1),
          lambda x: torch.sub(x, x.relu(), alpha=2), "alpha is 2"),
    _edge(c.exact_gelu, "gelu", "fp32", nn.GELU(), nn.GELU("tanh"), "it is approximated by tanh"),
    _edge(c.plain_elu, "elu", "int8_static", nn.ELU(0.5),
          lambda x: torch.ops.aten.elu.default(x, 0.5, 1, 2), "input_scale is 2"),
    _edge(c.square_only, "square", "int8_static", lambda x: x**2, lambda x: x**3, "the exponent is 3"),
    _edge(c.last_dimension, "softmax", "fp32", nn.Softmax(2), nn.Softmax(1), "it runs over dimension 1 of 3",
          shape=LINE),
    _edge(c.slope_for_each_channel, "prelu", "int8_static", nn.PReLU(4), nn.PReLU(4),
          "the input has rank 5, not 4", other=(2, 4, 2, 3, 3)),
    _edge(c.two_or_more, "cat", "int8_static", lambda x: torch.cat([x, x]), lambda x: torch.cat([x]),
          "1 tensor"),
    _edge(c.pads_with_zero, "pad", "int8_static", nn.ZeroPad2d(1), nn.ConstantPad2d(1, 0.5), "pads with 0.5"),
    _edge(c.pads_with_zero, "pad", "fp32", nn.ConstantPad2d(1, 0.5), nn.ReflectionPad2d(1), "reflect"),
    _edge(c.static_slice, "slice", "int8_static", lambda x: x[:, 1:4:1], lambda x: x[:, 0:4:2],
          "the step is 2"),
    _edge(c.static_slice, "slice", "int8_static", lambda x: x[:, -4:3], lambda x: x[:, -5:3],
          "it starts at -5 of 4"),
)  # fmt: skip


def _resized(
    constraint: Constraint,
    row: str,
    recipe: str,
    module: nn.Module | _Function,
    *,
    accepted: tuple[int, ...],
    refused: tuple[int, ...],
    reason: str,
) -> Edge:
    """One network; which of its input's dimensions may vary makes the difference."""
    sides = [_side(recipe, module, _values(*IMAGE), dynamic=dims) for dims in (accepted, refused)]
    return Edge(constraint=constraint, row=row, accepted=sides[0], refused=sides[1], reason=reason)


_SHAPES = (
    _resized(w.pool_window, "max_pool2d", "int8_static", nn.MaxPool2d(3, 2, ceil_mode=True),
             accepted=(), refused=(2,), reason="ceil mode with a dynamic shape"),
    _resized(c.static_slice, "slice", "int8_static", lambda x: x[:, 1:3], accepted=(), refused=(0,),
             reason="has the dynamic shape"),
    _resized(c.one_dynamic_dimension, "view", "int8_static", lambda x: x.flatten(2), accepted=(0,),
             refused=(0, 2), reason="is not known beforehand"),
    _resized(c.resize_to_constant_size, "upsample_bilinear2d", "fp32",
             lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), accepted=(), refused=(2,),
             reason="is dynamic"),
)  # fmt: skip

EDGES = (*_WINDOWS, *_LAYOUTS, *_OTHERS, *_SHAPES)
