"""Rules that build the integer forms of means, pools, padding, nearest upsampling and concatenation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from quanthost.graph.operators import argument
from quanthost.integer.building import Builder, Rule, per_dimension, static_count
from quanthost.integer.kernels.windows import AveragePool, MaxPool, Mean, WindowAverage
from quanthost.integer.numbers import Numbers
from quanthost.integer.sites import Island, Operand, base_name

__all__ = ["WINDOWS"]


def _mean(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operand(core.args[0], quantize)
    shape = core.args[0].meta["val"].shape
    dims = argument(core, "dim")
    dims = list(range(len(shape))) if dims is None else [d % len(shape) for d in dims]
    count = static_count([shape[d] for d in dims])
    n = operand.numbers
    output = b.output(core, [n.scale, 1.0 / count], out, count * n.reach, averages=True)
    operator = Mean(output, zero_point=n.zero_point, dims=dims, keepdim=bool(argument(core, "keepdim")))
    return b.call(quantize, core, operator, operand.node)


def _average_pool(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operand(core.args[0], quantize)
    n = operand.numbers
    window = _equal_windows(core)
    if window is None:
        return _window_average(b, quantize, core, operand, out)
    kernel, stride, padding = window
    count = kernel[0] * kernel[1]
    divisor = argument(core, "divisor_override", None) or count
    output = b.output(core, [n.scale, 1.0 / divisor], out, count * n.reach, averages=True)
    operator = AveragePool(output, zero_point=n.zero_point, kernel=kernel, stride=stride, padding=padding)
    return b.call(quantize, core, operator, operand.node)


def _equal_windows(core: fx.Node) -> tuple[list[int], list[int], list[int]] | None:
    """Kernel, stride and padding in two dimensions; ``None`` if windows count unequal numbers of elements."""
    if base_name(core).endswith("1d"):
        return None
    if base_name(core) == "adaptive_avg_pool2d":
        sizes, results = core.args[0].meta["val"].shape[-2:], per_dimension(core.args[1], 2, 1)
        if not all(isinstance(s, int) and s % r == 0 for s, r in zip(sizes, results)):
            return None
        kernel = [s // r for s, r in zip(sizes, results)]
        return kernel, kernel, [0, 0]
    kernel = per_dimension(argument(core, "kernel_size"), 2, 1)
    stride = per_dimension(argument(core, "stride") or kernel, 2, 1)
    padding = per_dimension(argument(core, "padding"), 2, 0)
    fewer = (
        any(padding) and not argument(core, "count_include_pad") and not argument(core, "divisor_override")
    )
    return None if fewer or argument(core, "ceil_mode") else (kernel, stride, padding)


def _window_average(b: Builder, quantize: fx.Node, core: fx.Node, operand: Operand, out: Numbers) -> fx.Node:
    """Average windows of any size; running the operator gives their elements and divisors."""
    rank = 1 if base_name(core).endswith("1d") else 2
    sizes = _static_sizes(core, rank)
    read = [_read(core, sizes, dim) for dim in range(rank)]
    averages = _run_on_plane(core, torch.ones(sizes, dtype=torch.float64))
    counts = read[-1].sum(1).double()
    if rank == 2:
        counts = read[0].sum(1).double()[:, None] * counts
    divisors = torch.round(counts / averages)
    n = operand.numbers
    bound = int(counts.max()) * n.reach
    output = b.output(core, [n.scale, 1.0 / divisors.reshape(-1)], out, bound, divisors.shape, averages=True)
    operator = WindowAverage(output, read[0] if rank == 2 else None, read[-1], zero_point=n.zero_point)
    return b.call(quantize, core, operator, operand.node)


def _static_sizes(core: fx.Node, rank: int) -> list[int]:
    sizes = list(core.args[0].meta["val"].shape[-rank:])
    if not all(isinstance(size, int) for size in sizes):
        raise Island("its input has dynamic sizes")
    return sizes


def _run_on_plane(core: fx.Node, plane: Tensor) -> Tensor:
    """Run an operator on a tensor with a single plane."""
    result: Tensor = core.target(plane[None, None], *core.args[1:], **core.kwargs)
    return result[0, 0]


def _read(core: fx.Node, sizes: Sequence[int], dim: int) -> Tensor:
    """Which elements along a dimension each window reads: int8 ``[windows, size]`` of 0 and 1."""
    single = torch.eye(sizes[dim], dtype=torch.float64)
    planes = torch.stack([_expand_along(row, dim, sizes) for row in single])
    result: Tensor = core.target(planes[None], *core.args[1:], **core.kwargs)[0]
    # one place along the other dimension is enough, as no window is entirely in the padding
    read = result.movedim(dim + 1, 1).reshape(sizes[dim], result.shape[dim + 1], -1)[..., 0]
    return read.t().gt(0).to(torch.int8).contiguous()


def _expand_along(line: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    return line.reshape([-1 if d == dim else 1 for d in range(len(sizes))]).expand(list(sizes))


def _max_pool(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operand(core.args[0], quantize)
    rank = 1 if base_name(core).endswith("1d") else 2
    kernel = per_dimension(argument(core, "kernel_size"), rank, 1)
    operator = MaxPool(
        kernel=kernel,
        stride=per_dimension(argument(core, "stride") or kernel, rank, 1),
        padding=per_dimension(argument(core, "padding"), rank, 0),
        dilation=per_dimension(argument(core, "dilation"), rank, 1),
        ceil=bool(argument(core, "ceil_mode")),
    )
    pooled = b.call(quantize, core, operator, operand.node)
    return b.requantize(quantize, Operand(pooled, operand.numbers), out)


def _concatenate(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operands = b.operands(core.args[0], quantize)
    inputs = [b.requantize(quantize, operand, out) for operand in operands]
    return b.move(quantize, core, core.target, inputs, *core.args[1:], **core.kwargs)


def _select_places(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers, rank: int) -> fx.Node:
    """Select elements of the operand; running the operator on indices shows which."""
    operand = b.operand(core.args[0], quantize)
    sizes = _static_sizes(core, rank)
    node = operand.node
    for dim, size in enumerate(sizes):
        result = _run_on_plane(core, _expand_along(torch.arange(size, dtype=torch.float32), dim, sizes))
        places = result.movedim(dim, 0).reshape(result.shape[dim], -1)[:, 0].to(torch.int64)
        if not torch.equal(places, torch.arange(size)):
            node = b.select(quantize, core, node, dim - rank, places)
    return b.requantize(quantize, Operand(node, operand.numbers), out)


def _nearest(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    return _select_places(b, quantize, core, out, core.args[0].meta["val"].dim() - 2)


def _pad(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    if argument(core, "mode", "constant") != "constant":
        return _select_places(b, quantize, core, out, len(argument(core, "pad")) // 2)
    operand = b.operand(core.args[0], quantize)
    value = argument(core, "value") or 0.0
    inside = int(operand.numbers.nearest(torch.tensor(float(value), dtype=torch.float64)))
    target = torch.ops.aten.constant_pad_nd.default
    node = b.move(quantize, core, target, operand.node, argument(core, "pad"), inside)
    return b.requantize(quantize, Operand(node, operand.numbers), out)


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
