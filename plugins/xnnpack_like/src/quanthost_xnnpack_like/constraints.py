"""Predicates of the support table: accept (``None``) or the reason why the delegate has no such kernel."""

from __future__ import annotations

import math
from typing import Any

import torch

from quanthost.api import Granularity, Kernel, QSpec, Site, constraint, tensor_meta

__all__ = [
    "alpha_is_one",
    "average_of_plain_window",
    "conv_has_kernel",
    "float32",
    "grouped",
    "groups_is_one",
    "int4_groups_fit",
    "last_dimension",
    "mean_over_height_and_width",
    "no_groups",
    "no_transposition",
    "one_dynamic_dimension",
    "pads_with_zero",
    "pool_window",
    "resize_to_constant_size",
    "same_layout",
    "square_only",
    "static_slice",
    "transposition",
    "two_or_more",
    "unit_output",
]

MAX_RANK = 6


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@constraint("tensors are float32, not empty, of rank 1 to 6")
def float32(site: Site) -> str | None:
    for name in (*site.captures, "output"):
        if name != "output" and not site.tensors(name):
            continue
        dtype, shape = site.dtype(name), site.shape(name)
        if dtype is not None and dtype not in (torch.float32, torch.int8):
            return f"{name} is {str(dtype).removeprefix('torch.')}, the delegate's kernels take float32"
        if len(shape) > MAX_RANK:
            return f"{name} has rank {len(shape)}, the delegate takes at most {MAX_RANK}"
        if any(_is_number(size) and size == 0 for size in shape):
            return f"{name} is empty, shape {shape}"
    return None


def _is_transposed(site: Site) -> bool:
    name = str(site.argument("transposed", None))
    return name == "True" or "conv_transpose" in str(site.anchor.target)


@constraint("the convolution is not transposed")
def no_transposition(site: Site) -> str | None:
    return "it is a transposed convolution" if _is_transposed(site) else None


@constraint("the convolution is transposed")
def transposition(site: Site) -> str | None:
    return None if _is_transposed(site) else "it is no transposed convolution"


@constraint("groups == 1")
def groups_is_one(site: Site) -> str | None:
    groups = site.argument("groups", 1)
    return None if groups == 1 else f"groups is {groups}"


@constraint("groups > 1")
def grouped(site: Site) -> str | None:
    return None if site.argument("groups", 1) > 1 else "groups is 1"


@constraint("1-d or 2-d; with ranges at run time, 2-d and not depthwise; padding given as numbers")
def conv_has_kernel(site: Site) -> str | None:
    weight = site.shape("weight")
    if len(weight) not in (3, 4):
        return f"the weight has rank {len(weight)}, the delegate has 1-d and 2-d convolutions"
    padding = site.argument("output_padding", 0)
    if _is_transposed(site) and any(padding if isinstance(padding, (list, tuple)) else [padding]):
        dilation = site.argument("dilation", 1)
        if any(d != 1 for d in (dilation if isinstance(dilation, (list, tuple)) else [dilation])):
            return "output padding together with dilation"
    if site.kernel is not Kernel.DYNAMIC:
        return None
    if len(weight) != 4:
        return "with ranges at run time the delegate has 2-d convolutions only"
    groups = site.argument("groups", 1)
    if groups > 1 and weight[1] == 1:
        return "with ranges at run time the delegate has no depthwise convolution"
    return None


@constraint("alpha is 1")
def alpha_is_one(site: Site) -> str | None:
    alpha = site.argument("alpha", 1)
    return None if alpha in (None, 1) else f"alpha is {alpha}"


@constraint("at least two tensors")
def two_or_more(site: Site) -> str | None:
    count = len(site.tensors("inputs"))
    return None if count >= 2 else f"{count} tensor"


@constraint("stride does not exceed the window; no ceil mode on dynamic shapes")
def pool_window(site: Site) -> str | None:
    kernel, stride = _pair(site.argument("kernel_size")), _pair(site.argument("stride"))
    stride = stride or kernel
    if any(s > k for s, k in zip(stride, kernel)):
        return f"the stride {stride} exceeds the window {kernel}"
    if len(site.shape("input")) != 4:
        return f"the input has rank {len(site.shape('input'))}, not 4"
    dynamic = any(not _is_number(size) for size in site.shape("output"))
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


def _pair(value: Any) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return values * 2 if len(values) == 1 else values


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


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


@constraint("4-d, to one value per channel")
def unit_output(site: Site) -> str | None:
    if len(site.shape("input")) != 4:
        return f"the input has rank {len(site.shape('input'))}, not 4"
    size = _pair(site.argument("output_size"))
    return None if tuple(size) == (1, 1) else f"the output size is {size}, the delegate has 1×1"


@constraint("over the last dimension, without conversion")
def last_dimension(site: Site) -> str | None:
    rank, dim = len(site.shape("input")), site.argument("dim")
    if site.argument("dtype") is not None or site.argument("half_to_float"):
        return "it converts its input"
    return None if dim % rank == rank - 1 else f"it runs over dimension {dim} of {rank}"


@constraint("step 1, shapes known beforehand")
def static_slice(site: Site) -> str | None:
    if site.argument("step", 1) != 1:
        return f"the step is {site.argument('step')}"
    for name in ("input", "output"):
        if any(not _is_number(size) for size in site.shape(name)):
            return f"{name} has the dynamic shape {site.shape(name)}"
    return None


@constraint("not more than one dynamic dimension in the new shape")
def one_dynamic_dimension(site: Site) -> str | None:
    wanted = site.argument("size", site.argument("shape"))
    if wanted is not None and all(_is_number(size) for size in wanted):
        return None
    dynamic = [size for size in site.shape("output") if not _is_number(size)]
    if not dynamic and wanted is None:
        return None
    return f"the new shape {tuple(wanted) if wanted else site.shape('output')} is not known beforehand"


@constraint("the memory layout stays as it is")
def same_layout(site: Site) -> str | None:
    source, made = (tensor_meta(node) for node in (site.anchor.all_input_nodes[0], site.anchor))
    if source is None or made is None or source.dim_order() == made.dim_order():
        return None
    return f"it changes the dimension order from {source.dim_order()} to {made.dim_order()}"


@constraint("constant mode, no cropping; integer kernels pad with zero")
def pads_with_zero(site: Site) -> str | None:
    if site.argument("mode", "constant") != "constant":
        return f"the mode is {site.argument('mode')}"
    if any(not _is_number(p) or p < 0 for p in site.argument("pad")):
        return f"the padding {site.argument('pad')} is negative or dynamic"
    value = site.argument("value") or 0
    if site.kernel is Kernel.STATIC and value != 0:
        return f"it pads with {value}, which the tensor's range need not contain"
    return None


@constraint("the exponent is 2")
def square_only(site: Site) -> str | None:
    exponent = site.argument("exponent")
    return None if exponent == 2 and isinstance(exponent, int) else f"the exponent is {exponent!r}"


@constraint("the size of the result is known beforehand")
def resize_to_constant_size(site: Site) -> str | None:
    if any(not _is_number(size) for size in site.shape("output")[2:]):
        return f"the size {site.shape('output')[2:]} is dynamic"
    return None


def _has_groups(site: Site) -> bool:
    weight = site.recipe.weight if site.recipe is not None else None
    return isinstance(weight, QSpec) and weight.granularity is Granularity.PER_GROUP


@constraint("4-bit groups: the input channels are a multiple of 32")
def int4_groups_fit(site: Site) -> str | None:
    channels = site.shape("weight")[-1]
    if not _has_groups(site) or channels % 32 == 0:
        return None
    return f"{channels} input channels are no multiple of the group size 32"


@constraint("no 4-bit groups")
def no_groups(site: Site) -> str | None:
    return "the delegate has 4-bit groups for linear layers only" if _has_groups(site) else None
