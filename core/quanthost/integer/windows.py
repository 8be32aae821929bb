"""Operators over windows and places: means, pools, padding, nearest upsampling, concatenation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from quanthost.graph.operators import argument
from quanthost.integer import kernels as ops
from quanthost.integer.building import Builder, Rule, each, static_count
from quanthost.integer.numbers import Numbers
from quanthost.integer.sites import Island, Operand, base_name

__all__ = ["WINDOWS"]


def _mean(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operands([core.args[0]], quantize)[0]
    shape = core.args[0].meta["val"].shape
    dims = argument(core, "dim")
    dims = list(range(len(shape))) if dims is None else [d % len(shape) for d in dims]
    count = static_count([shape[d] for d in dims])
    n = operand.numbers
    output = b.output(core, [n.scale, 1.0 / count], out, count * n.reach, averages=True)
    operator = ops.Mean(output, zero_point=n.zero_point, dims=dims, keepdim=bool(argument(core, "keepdim")))
    return b.call(quantize, core, operator, operand.node)


def _average_pool(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operands([core.args[0]], quantize)[0]
    n = operand.numbers
    window = _equal_windows(core)
    if window is None:
        return _window_average(b, quantize, core, operand, out)
    kernel, stride, padding = window
    count = kernel[0] * kernel[1]
    divisor = argument(core, "divisor_override", None) or count
    output = b.output(core, [n.scale, 1.0 / divisor], out, count * n.reach, averages=True)
    operator = ops.AveragePool(output, zero_point=n.zero_point, kernel=kernel, stride=stride, padding=padding)
    return b.call(quantize, core, operator, operand.node)


def _equal_windows(core: fx.Node) -> tuple[list[int], list[int], list[int]] | None:
    """Kernel, stride and padding of two dimensions, where all windows count the same number of elements."""
    if base_name(core).endswith("1d"):
        return None
    if base_name(core) == "adaptive_avg_pool2d":
        sizes, made = core.args[0].meta["val"].shape[-2:], each(core.args[1], 2, 1)
        if not all(isinstance(s, int) and s % m == 0 for s, m in zip(sizes, made)):
            return None
        kernel = [s // m for s, m in zip(sizes, made)]
        return kernel, kernel, [0, 0]
    kernel = each(argument(core, "kernel_size"), 2, 1)
    stride = each(argument(core, "stride") or kernel, 2, 1)
    padding = each(argument(core, "padding"), 2, 0)
    fewer = (
        any(padding) and not argument(core, "count_include_pad") and not argument(core, "divisor_override")
    )
    return None if fewer or argument(core, "ceil_mode") else (kernel, stride, padding)


def _window_average(b: Builder, quantize: fx.Node, core: fx.Node, operand: Operand, out: Numbers) -> fx.Node:
    """Windows of any size; the operator itself tells what they read, and by what they divide."""
    rank = 1 if base_name(core).endswith("1d") else 2
    sizes = _static_sizes(core, rank)
    read = [_read(core, sizes, dim) for dim in range(rank)]
    averages = _of_itself(core, torch.ones(sizes, dtype=torch.float64))
    counts = read[-1].sum(1).double()
    if rank == 2:
        counts = read[0].sum(1).double()[:, None] * counts
    divisors = torch.round(counts / averages)
    n = operand.numbers
    bound = int(counts.max()) * n.reach
    output = b.output(core, [n.scale, 1.0 / divisors.reshape(-1)], out, bound, divisors.shape, averages=True)
    operator = ops.WindowAverage(output, read[0] if rank == 2 else None, read[-1], zero_point=n.zero_point)
    return b.call(quantize, core, operator, operand.node)


def _static_sizes(core: fx.Node, rank: int) -> list[int]:
    sizes = list(core.args[0].meta["val"].shape[-rank:])
    if not all(isinstance(size, int) for size in sizes):
        raise Island("its size is not known beforehand")
    return sizes


def _of_itself(core: fx.Node, plane: Tensor) -> Tensor:
    """What an operator makes of one plane of a tensor."""
    made: Tensor = core.target(plane[None, None], *core.args[1:], **core.kwargs)
    return made[0, 0]


def _read(core: fx.Node, sizes: Sequence[int], dim: int) -> Tensor:
    """Which elements along a dimension each window reads: int8 ``[windows, size]`` of 0 and 1."""
    single = torch.eye(sizes[dim], dtype=torch.float64)
    planes = torch.stack([_along(row, dim, sizes) for row in single])
    made: Tensor = core.target(planes[None], *core.args[1:], **core.kwargs)[0]
    # any place along the other dimension tells, as no window lies in the padding alone
    read = made.movedim(dim + 1, 1).reshape(sizes[dim], made.shape[dim + 1], -1)[..., 0]
    return read.t().gt(0).to(torch.int8).contiguous()


def _along(line: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    return line.reshape([-1 if d == dim else 1 for d in range(len(sizes))]).expand(list(sizes))


def _max_pool(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operands([core.args[0]], quantize)[0]
    rank = 1 if base_name(core).endswith("1d") else 2
    kernel = each(argument(core, "kernel_size"), rank, 1)
    operator = ops.MaxPool(
        kernel=kernel, stride=each(argument(core, "stride") or kernel, rank, 1),
        padding=each(argument(core, "padding"), rank, 0), dilation=each(argument(core, "dilation"), rank, 1),
        ceil=bool(argument(core, "ceil_mode")),
    )  # fmt: skip
    made = b.call(quantize, core, operator, operand.node)
    return b.requantized(quantize, Operand(made, operand.numbers), out)


def _concatenate(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operands = b.operands(core.args[0], quantize)
    made = [b.requantized(quantize, operand, out) for operand in operands]
    return b.same(quantize, core, core.target, made, *core.args[1:], **core.kwargs)


def _places(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers, rank: int) -> fx.Node:
    """Results that are elements of the operand; the operator itself tells which."""
    operand = b.operands([core.args[0]], quantize)[0]
    sizes = _static_sizes(core, rank)
    node = operand.node
    for dim, size in enumerate(sizes):
        made = _of_itself(core, _along(torch.arange(size, dtype=torch.float32), dim, sizes))
        taken = made.movedim(dim, 0).reshape(made.shape[dim], -1)[:, 0].to(torch.int64)
        if not torch.equal(taken, torch.arange(size)):
            node = b.select(quantize, core, node, dim - rank, taken)
    return b.requantized(quantize, Operand(node, operand.numbers), out)


def _nearest(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    return _places(b, quantize, core, out, core.args[0].meta["val"].dim() - 2)


def _pad(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    if argument(core, "mode", "constant") != "constant":
        return _places(b, quantize, core, out, len(argument(core, "pad")) // 2)
    operand = b.operands([core.args[0]], quantize)[0]
    value = argument(core, "value") or 0.0
    inside = int(operand.numbers.nearest(torch.tensor(float(value), dtype=torch.float64)))
    target = torch.ops.aten.constant_pad_nd.default
    node = b.same(quantize, core, target, operand.node, argument(core, "pad"), inside)
    return b.requantized(quantize, Operand(node, operand.numbers), out)


WINDOWS: Mapping[str, Rule] = {
    "mean": _mean,
    **dict.fromkeys(
        ("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"), _average_pool
    ),
    **dict.fromkeys(("max_pool1d", "max_pool2d"), _max_pool),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d"), _nearest),
    **dict.fromkeys(("cat", "stack"), _concatenate),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
}
