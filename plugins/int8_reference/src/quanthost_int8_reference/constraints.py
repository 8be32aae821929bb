"""Predicates of the support table: accept (``None``) or the reason why the row does not hold."""

from __future__ import annotations

from typing import Any

import torch

from quanthost.api import Site, constraint

__all__ = [
    "another_product",
    "evaluates",
    "float32",
    "no_conversion",
    "number_operand",
    "one_scale_a_row",
    "pads_inside_the_range",
    "plain_sum",
    "scale_groups_fit",
    "weight_matrix",
]


@constraint("tensors are float32")
def float32(site: Site) -> str | None:
    for name in (*site.captures, "output"):
        dtype = site.dtype(name)
        if dtype not in (None, torch.float32):
            return f"{name} is {str(dtype).removeprefix('torch.')}, not float32"
    return None


@constraint("scales for groups of a row: the row is a multiple of 32")
def scale_groups_fit(site: Site) -> str | None:
    columns = site.shape("weight")[-1]
    if not site.has_scale_groups or columns % 32 == 0:
        return None
    return f"{columns} input channels are no multiple of the group size 32"


@constraint("no scales for groups of a row")
def one_scale_a_row(site: Site) -> str | None:
    return "scales for groups are for linear layers" if site.has_scale_groups else None


@constraint("alpha and beta are 1, the bias has one dimension")
def plain_sum(site: Site) -> str | None:
    for name in ("alpha", "beta"):
        if site.argument(name, 1) != 1:
            return f"{name} is {site.argument(name)}"
    rank = len(site.shape("bias"))
    return None if rank == 1 else f"the bias has rank {rank}"


@constraint("the second operand is a constant matrix")
def weight_matrix(site: Site) -> str | None:
    rank = len(site.shape("weight"))
    return None if rank == 2 else f"the weight has rank {rank}"


@constraint("the second operand is computed, or no matrix")
def another_product(site: Site) -> str | None:
    if site.is_constant("other") and len(site.shape("other")) == 2:
        return "the second operand is a constant matrix, which is a weight"
    return None


@constraint("the second operand is a number")
def number_operand(site: Site) -> str | None:
    other = site.argument("other")
    is_number = isinstance(other, (int, float)) and not isinstance(other, bool)
    return None if is_number else "the second operand is a tensor"


@constraint("no other dtype is asked for")
def no_conversion(site: Site) -> str | None:
    dtype = site.argument("dtype")
    if dtype not in (None, torch.float32) or site.argument("half_to_float"):
        return f"it converts to {dtype}"
    return None


@constraint("it does not train")
def evaluates(site: Site) -> str | None:
    return "it drops values, as in training" if site.argument("train", False) else None


@constraint("pads with zero or with the tensor's own values, and crops nothing")
def pads_inside_the_range(site: Site) -> str | None:
    mode, value = site.argument("mode", "constant"), site.argument("value")
    if any(isinstance(size, int) and size < 0 for size in site.argument("pad")):
        return f"the padding {site.argument('pad')} is negative, which ExecuTorch's kernel refuses"
    if mode not in ("constant", "reflect", "replicate"):
        return f"the mode is {mode}"
    return _not_zero(value) if mode == "constant" else None


def _not_zero(value: Any) -> str | None:
    if value is None or value == 0:
        return None
    return f"it pads with {value}, which the tensor's range need not contain"
