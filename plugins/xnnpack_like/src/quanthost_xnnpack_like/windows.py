"""Constraints of operators with a window: convolutions, pools, and reductions over height and width."""

from __future__ import annotations

import math
from typing import Any

from quanthost.api import Kernel, Site, constraint
from quanthost_xnnpack_like.constraints import is_number

__all__ = [
    "average_of_plain_window",
    "conv_has_kernel",
    "maximum_over_height_or_width",
    "mean_over_height_and_width",
    "no_transposition",
    "pads_both_sides",
    "plain_2d",
    "pool_window",
    "transposition",
    "unit_output",
]


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _pair(value: Any) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return values * 2 if len(values) == 1 else values


def _is_transposed(site: Site) -> bool:
    name = str(site.argument("transposed", None))
    return name == "True" or "conv_transpose" in str(site.anchor.target)


@constraint("the convolution is not transposed")
def no_transposition(site: Site) -> str | None:
    return "it is a transposed convolution" if _is_transposed(site) else None


@constraint("the convolution is transposed")
def transposition(site: Site) -> str | None:
    return None if _is_transposed(site) else "it is no transposed convolution"


@constraint("1-d or 2-d, with a batch dimension; no dilation together with output padding")
def conv_has_kernel(site: Site) -> str | None:
    weight, source = site.shape("weight"), site.shape("input")
    if len(weight) not in (3, 4):
        return f"the weight has rank {len(weight)}, the delegate has 1-d and 2-d convolutions"
    if len(source) != len(weight):
        return f"the input has rank {len(source)}: there is no batch dimension"
    dilated = any(d != 1 for d in _as_tuple(site.argument("dilation", 1)))
    if _is_transposed(site) and dilated and any(_as_tuple(site.argument("output_padding", 0))):
        return "output padding together with dilation"
    return None


@constraint("both sides are padded alike", kernels={Kernel.STATIC, Kernel.DYNAMIC})
def pads_both_sides(site: Site) -> str | None:
    """Uneven padding becomes a separate operator between dequantize and convolution."""
    if site.argument("padding") != "same":
        return None
    window = site.shape("weight")[2:]
    dilation = _as_tuple(site.argument("dilation", 1))
    reach = [d * (k - 1) for k, d in zip(window, dilation * (len(window) // len(dilation)))]
    return f"padding 'same' adds {reach}, one more behind" if any(r % 2 for r in reach) else None


@constraint("2-d and not depthwise", kernels={Kernel.DYNAMIC})
def plain_2d(site: Site) -> str | None:
    weight = site.shape("weight")
    if len(weight) != 4:
        return "with ranges at run time the delegate has 2-d convolutions only"
    # one input channel a group makes it depthwise for the delegate, even with one group
    return "with ranges at run time the delegate has no depthwise convolution" if weight[1] == 1 else None


@constraint("stride does not exceed the window; no ceil mode on dynamic shapes")
def pool_window(site: Site) -> str | None:
    kernel, stride = _pair(site.argument("kernel_size")), _pair(site.argument("stride"))
    stride = stride or kernel
    if any(s > k for s, k in zip(stride, kernel)):
        return f"the stride {stride} exceeds the window {kernel}"
    if len(site.shape("input")) != 4:
        return f"the input has rank {len(site.shape('input'))}, not 4"
    dynamic = any(not is_number(size) for size in site.shape("output"))
    return "ceil mode with a dynamic shape" if site.argument("ceil_mode") and dynamic else None


@constraint("no ceil mode, padding only where it is not counted, no divisor of its own")
def average_of_plain_window(site: Site) -> str | None:
    kernel = _pair(site.argument("kernel_size"))
    if len(site.shape("input")) != 4:
        return f"the input has rank {len(site.shape('input'))}, not 4"
    if site.argument("ceil_mode"):
        return "ceil mode"
    if site.argument("count_include_pad") and any(_pair(site.argument("padding"))):
        return "padding that is counted in the average"
    divisor = site.argument("divisor_override")
    if divisor is not None and divisor != math.prod(kernel):
        return f"the divisor {divisor} instead of {math.prod(kernel)}"
    return None


@constraint("4-d, over both spatial dimensions, which are kept")
def mean_over_height_and_width(site: Site) -> str | None:
    shape = site.shape("input")
    if len(shape) != 4:
        return f"the input has rank {len(shape)}, not 4"
    if site.argument("dtype") is not None:
        return f"it converts to {site.argument('dtype')}"
    dims = site.argument("dim")
    if dims is None or sorted(d % 4 for d in _as_tuple(dims)) != [2, 3]:
        return f"it averages over {dims}, the delegate over height and width"
    return None if site.argument("keepdim") else "it drops the averaged dimensions"


@constraint("4-d, to one value per channel")
def unit_output(site: Site) -> str | None:
    if len(site.shape("input")) != 4:
        return f"the input has rank {len(site.shape('input'))}, not 4"
    size = _pair(site.argument("output_size"))
    return None if tuple(size) == (1, 1) else f"the output size is {size}, the delegate has 1×1"


@constraint("4-d, over height or width, which is kept; the values alone")
def maximum_over_height_or_width(site: Site) -> str | None:
    rank, dim = len(site.shape("input")), site.argument("dim")
    if rank != 4:
        return f"the input has rank {rank}, not 4"
    if dim not in (2, 3):
        return f"it runs over dimension {dim}, the delegate over height (2) or width (3)"
    return None if site.argument("keepdim") else f"it drops dimension {dim}"
