"""The sizes at which a backend's rows are timed: sizes that are common in networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import nn

from quanthost.catalogue.entries import Variation
from quanthost.catalogue.lookup import entries_of
from quanthost.catalogue.operands import Operand
from quanthost.catalogue.pattern_modules import fits, innermost, module_of
from quanthost.graph.table import Row

__all__ = ["Example", "examples_of"]

_Arguments = Mapping[str, Any]


def _T(shape: tuple[int, ...], below: int | None = None) -> Operand:  # noqa: N802  # as in the other lists
    return Operand(shape, below, -0.75, 1.25)


def _conv(name: str, *sizes: tuple[Any, ...]) -> list[_Arguments]:
    """Arguments from input shape, weight shape, stride, padding and groups."""
    return [
        {
            name: _T(shape), "weight": _T(weight), "bias": _T((weight[0],)), "stride": [stride],
            "padding": [padding], "groups": groups,
        }
        for shape, weight, stride, padding, groups in sizes
    ]  # fmt: skip


def _transpose(*sizes: tuple[Any, ...]) -> list[_Arguments]:
    return [
        {
            "input": _T(shape), "weight": _T(weight), "bias": _T((weight[1] * groups,)), "stride": [2],
            "padding": [1], "groups": groups,
        }
        for shape, weight, groups in sizes
    ]  # fmt: skip


_MAPS = ((1, 16, 16, 16), (1, 32, 56, 56), (1, 96, 112, 112), (1, 960, 7, 7), (1, 64, 192))
_LINES = ((1, 64), (1, 1280), (64, 192), (197, 768))


def _unary(*shapes: tuple[int, ...], **more: Any) -> list[_Arguments]:
    return [{"self": _T(shape), **more} for shape in shapes or _MAPS]


def _binary(other: str = "other") -> list[_Arguments]:
    alike = [{"self": _T(shape), other: _T(shape)} for shape in _MAPS]
    gates = [{"self": _T((1, c, n, n)), other: _T((1, c, 1, 1))} for c, n in ((32, 56), (144, 28), (960, 7))]
    return [*alike, *gates]


_SIZES: dict[str, list[_Arguments]] = {
    "conv2d": _conv(
        "input",
        ((1, 3, 96, 96), (16, 3, 3, 3), 2, 1, 1),
        ((1, 3, 224, 224), (32, 3, 3, 3), 2, 1, 1),
        ((1, 16, 32, 32), (16, 16, 3, 3), 1, 1, 1),
        ((1, 64, 56, 56), (64, 64, 3, 3), 1, 1, 1),
        ((1, 128, 28, 28), (128, 128, 3, 3), 1, 1, 1),
        ((1, 256, 14, 14), (256, 256, 3, 3), 1, 1, 1),
        ((1, 16, 56, 56), (96, 16, 1, 1), 1, 0, 1),
        ((1, 96, 56, 56), (24, 96, 1, 1), 1, 0, 1),
        ((1, 384, 14, 14), (64, 384, 1, 1), 1, 0, 1),
        ((1, 160, 7, 7), (960, 160, 1, 1), 1, 0, 1),
        ((1, 960, 1, 1), (40, 960, 1, 1), 1, 0, 1),
        ((1, 32, 112, 112), (32, 1, 3, 3), 1, 1, 32),
        ((1, 144, 56, 56), (144, 1, 3, 3), 2, 1, 144),
        ((1, 576, 14, 14), (576, 1, 3, 3), 1, 1, 576),
        ((1, 240, 14, 14), (240, 1, 5, 5), 1, 2, 240),
    ),
    "conv1d": _conv("input", ((1, 16, 256), (32, 16, 9), 1, 4, 1), ((1, 64, 64), (64, 64, 3), 1, 1, 1)),
    "conv_transpose2d": _transpose(
        ((1, 16, 16, 16), (16, 16, 4, 4), 1), ((1, 64, 28, 28), (64, 32, 4, 4), 1),
        ((1, 16, 16, 16), (16, 4, 4, 4), 4), ((1, 64, 28, 28), (64, 16, 4, 4), 2),
    ),
    "linear": [
        {"input": _T((rows, inputs)), "weight": _T((outputs, inputs)), "bias": _T((outputs,))}
        for rows, inputs, outputs in (
            (1, 64, 64), (1, 512, 512), (1, 1280, 1000), (64, 192, 192), (64, 192, 768), (64, 768, 192),
            (197, 384, 384),
        )
    ],
    "embedding": [{"weight": _T((count, width)), "indices": _T((1, 128), below=count)}
                  for count, width in ((1000, 64), (30522, 384))],
    "mm": [{"self": _T((n, k)), "mat2": _T((k, n))} for n, k in ((64, 64), (197, 64))],
    "bmm": [{"self": _T((3, n, k)), "mat2": _T((3, k, n))} for n, k in ((64, 64), (197, 64))],
    "add.Tensor": _binary(), "sub.Tensor": _binary(), "mul.Tensor": _binary(),
    "div.Tensor": [{"self": _T(shape), "other": _T(shape)} for shape in _MAPS],
    "maximum": _binary(), "minimum": _binary(),
    "relu": _unary(), "hardswish": _unary(), "gelu": _unary(), "elu": _unary(), "abs": _unary(),
    "leaky_relu": _unary(), "neg": _unary(), "floor": _unary(), "ceil": _unary(), "exp": _unary(),
    "sin": _unary(), "cos": _unary(), "sigmoid": _unary(), "tanh": _unary(), "square": _unary(),
    "hardsigmoid": _unary(), "silu": _unary(), "sqrt": _unary(), "rsqrt": _unary(), "log": _unary(),
    "hardtanh": _unary(min_val=-0.5, max_val=0.75), "relu6": _unary(),
    "softmax.int": _unary(*_LINES, (3, 64, 64), dim=-1),
    "prelu": [{"self": _T(shape), "weight": _T((shape[1],))} for shape in _MAPS[:4]],
    "max_pool2d": [
        {"self": _T(shape), "kernel_size": [k], "stride": [2], "padding": [k // 2]}
        for shape in _MAPS[:4] for k in (2, 3)
    ],
    "avg_pool2d": _unary(*_MAPS[:4], kernel_size=[2], stride=[2]),
    "max.dim": _unary(*_MAPS[:4], dim=2),
    "cat": [{"tensors": [_T(shape), _T(shape)], "dim": 1} for shape in _MAPS],
    "pad": _unary(*_MAPS[:4], pad=[1, 1, 1, 1]),
    "slice.Tensor": [{"self": _T(s), "dim": 1, "start": 0, "end": s[1] // 2, "step": 1} for s in _MAPS],
    "view": [{"self": _T(shape), "size": [shape[0], -1]} for shape in _MAPS],
    "clone": _unary(),
    "permute": [{"self": _T(s), "dims": [0, *range(len(s) - 1, 0, -1)]} for s in (*_MAPS, (1, 197, 3, 64))],
    "mean.dim": _unary(*_MAPS[:4], dim=[2, 3], keepdim=True),
    "adaptive_avg_pool2d": _unary(*_MAPS[:4], output_size=[1, 1]),
    "upsample_bilinear2d.vec": [
        {"input": _T(s), "output_size": [2 * s[2], 2 * s[3]], "align_corners": False, "scale_factors": None}
        for s in _MAPS[:2]
    ],
}  # fmt: skip


@attrs.frozen(kw_only=True, eq=False)
class Example:
    """A module that computes a row's pattern, and inputs for it."""

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]


def examples_of(row: Row) -> Iterator[Example]:
    """The row's pattern at each size of its innermost operator.

    There are none if the catalogue lacks one of the pattern's operators.
    """
    if not fits(row.pattern):
        return
    for name in innermost(row.pattern).names:
        for arguments in _SIZES.get(name, ()):
            operator = entries_of(name)[0].name
            variation = Variation(name="timed", operator=operator, arguments=arguments)
            module = module_of(row.pattern, variation, dict(row.roles))
            yield Example(module=module, inputs=tuple(module.inputs))
