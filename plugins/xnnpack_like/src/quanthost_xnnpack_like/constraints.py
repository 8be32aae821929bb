"""Predicates of the support table: accept (``None``) or the reason why the delegate has no such kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from quanthost.api import Kernel, Site, constraint, qdq_parameters, tensor_meta

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = [
    "copies_alone",
    "exact_gelu",
    "float32",
    "float32_weight",
    "int4_groups_fit",
    "is_number",
    "last_dimension",
    "no_groups",
    "one_dynamic_dimension",
    "pads_with_zero",
    "plain_elu",
    "product_fits",
    "resize_to_constant_size",
    "same_layout",
    "slope_for_each_channel",
    "square_only",
    "static_slice",
    "two_or_more",
]

MAX_RANK = 6


def is_number(value: Any) -> bool:
    """Whether a size or padding is known beforehand."""
    return isinstance(value, int) and not isinstance(value, bool)


@constraint("tensors are float32, not empty, of rank 1 to 6")
def float32(site: Site) -> str | None:
    tensors = [(name, node) for name in site.captures for node in site.tensors(name)]
    for name, node in (*tensors, ("output", site.output)):
        meta = tensor_meta(node)
        if meta is None:
            continue
        shape = tuple(meta.shape)
        if meta.dtype != torch.float32:
            return f"{name} is {str(meta.dtype).removeprefix('torch.')}, the delegate's kernels take float32"
        if not 1 <= len(shape) <= MAX_RANK:
            return f"{name} has rank {len(shape)}, the delegate takes 1 to {MAX_RANK}"
        if any(is_number(size) and size == 0 for size in shape):
            return f"{name} is empty, shape {shape}"
    return None


@constraint("the weight is float32")
def float32_weight(site: Site) -> str | None:
    dtype = site.dtype("weight")
    if dtype == torch.float32:
        return None
    return f"the weight is {str(dtype).removeprefix('torch.')}; its scales are float32"


@constraint("at least two tensors")
def two_or_more(site: Site) -> str | None:
    count = len(site.tensors("inputs"))
    return None if count >= 2 else f"{count} tensor"


@constraint("over the last dimension")
def last_dimension(site: Site) -> str | None:
    rank, dim = len(site.shape("input")), site.argument("dim")
    return None if rank and dim % rank == rank - 1 else f"it runs over dimension {dim} of {rank}"


@constraint("step 1, shapes known beforehand, a start inside the tensor")
def static_slice(site: Site) -> str | None:
    if site.argument("step", 1) != 1:
        return f"the step is {site.argument('step')}"
    for name in ("input", "output"):
        if any(not is_number(size) for size in site.shape(name)):
            return f"{name} has the dynamic shape {site.shape(name)}"
    start, size = site.argument("start"), site.shape("input")[site.argument("dim", 0)]
    return f"it starts at {start} of {size}" if start is not None and start < -size else None


@constraint("not more than one dynamic dimension in the new shape")
def one_dynamic_dimension(site: Site) -> str | None:
    sizes = site.argument("size", site.argument("shape"))
    if sizes is not None and all(is_number(size) for size in sizes):
        return None
    dynamic = [size for size in site.shape("output") if not is_number(size)]
    if not dynamic and sizes is None:
        return None
    return f"the new shape {tuple(sizes) if sizes else site.shape('output')} is not known beforehand"


@constraint("the memory layout stays as it is")
def same_layout(site: Site) -> str | None:
    source, result = (tensor_meta(node) for node in (site.anchor.all_input_nodes[0], site.anchor))
    if source is None or result is None or source.dim_order() == result.dim_order():
        return None
    return f"it changes the dimension order from {source.dim_order()} to {result.dim_order()}"


@constraint("nothing else reads what it copies", kernels={Kernel.FLOAT})
def copies_alone(site: Site) -> str | None:
    """The delegate drops the copy, and refuses one tensor as two of its results."""
    readers = len(site.tensors("input")[0].users)
    return None if readers == 1 else f"{site.tensors('input')[0].name} has {readers} readers"


@constraint("constant mode, no cropping; integer kernels pad with zero")
def pads_with_zero(site: Site) -> str | None:
    if site.argument("mode", "constant") != "constant":
        return f"the mode is {site.argument('mode')}"
    if any(not is_number(p) or p < 0 for p in site.argument("pad")):
        return f"the padding {site.argument('pad')} is negative or dynamic"
    value = site.argument("value") or 0
    if site.kernel is Kernel.STATIC and value != 0:
        return f"it pads with {value}, which the tensor's range need not contain"
    return None


@constraint("the exponent is 2")
def square_only(site: Site) -> str | None:
    exponent = site.argument("exponent", 2)
    return None if exponent == 2 else f"the exponent is {exponent!r}"


@constraint("the exact form", kernels={Kernel.FLOAT})
def exact_gelu(site: Site) -> str | None:
    """The delegate computes with erf; in int8 the two forms differ by less than a step."""
    form = site.argument("approximate", "none")
    return None if form == "none" else f"it is approximated by {form}"


@constraint("scaled on neither side")
def plain_elu(site: Site) -> str | None:
    for name in ("scale", "input_scale"):
        if site.argument(name, 1) != 1:
            return f"{name} is {site.argument(name)}"
    return None


@constraint("4-d, a slope for each channel")
def slope_for_each_channel(site: Site) -> str | None:
    shape, slopes = site.shape("input"), site.shape("weight")
    if len(shape) != 4:
        return f"the input has rank {len(shape)}, not 4"
    return None if slopes == (shape[1],) else f"the slopes have the shape {slopes} for {shape[1]} channels"


@constraint("the size of the result is known beforehand")
def resize_to_constant_size(site: Site) -> str | None:
    if any(not is_number(size) for size in site.shape("output")[2:]):
        return f"the size {site.shape('output')[2:]} is dynamic"
    return None


@constraint("4-bit groups: the input channels are a multiple of 32")
def int4_groups_fit(site: Site) -> str | None:
    channels = site.shape("weight")[-1]
    if not site.has_scale_groups or channels % 32 == 0:
        return None
    return f"{channels} input channels are no multiple of the group size 32"


@constraint("no 4-bit groups")
def no_groups(site: Site) -> str | None:
    return "the delegate has 4-bit groups for linear layers only" if site.has_scale_groups else None


def _scale(node: Node) -> float | None:
    """The scale on a quantize or dequantize, ``None`` for other nodes and for a computed scale."""
    parameters = qdq_parameters(node)
    return parameters.scale if parameters is not None and parameters.are_numbers else None


@constraint("the product's scale is below 2^8 times the result's", kernels={Kernel.STATIC})
def product_fits(site: Site) -> str | None:
    """Scales are known in the edge graph; beyond, before a narrow hardtanh say, the kernel is wrong.

    Source: the range of ``product_output_scale`` in XNNPACK, src/operators/binary-elementwise-nd.c.
    """
    factors = [_scale(site.tensors(name)[0]) for name in ("input", "other")]
    result = next((s for s in map(_scale, site.output.users) if s is not None), None)
    if result is None or None in factors:
        return None
    ratio = math.prod(f for f in factors if f is not None) / result
    return None if ratio < 2.0**8 else f"the product's scale is {ratio:.6g} times the result's"
