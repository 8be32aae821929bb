"""Entries of layers: convolutions, linear layers, matrix products, embeddings, norms and attention."""

from __future__ import annotations

from typing import Any

import torch

from quanthost.catalogue.entries import Entry
from quanthost.catalogue.operands import Operand as T

__all__ = ["ENTRIES"]


def _conv(dimensions: int) -> Entry:
    size, window = (8, 7)[:dimensions], (3,) * dimensions
    ones = [1] * dimensions
    changes: dict[str, Any] = {
        "no_bias": {"bias": None},
        "stride=2": {"stride": [2] * dimensions},
        "padding=0": {"padding": [0] * dimensions},
        "padding=2": {"padding": [2] * dimensions},
        "dilation=2": {"dilation": [2] * dimensions},
        "padding=same": {"operator": f"conv{dimensions}d.padding", "padding": "same"},
        "padding=same,even_window": {
            "operator": f"conv{dimensions}d.padding", "padding": "same",
            "weight": T((6, 4, *window[1:], 4)),
        },
        "groups=2": {"groups": 2, "weight": T((6, 2, *window))},
        "depthwise": {"groups": 4, "weight": T((4, 1, *window)), "bias": T((4,))},
        "depthwise,multiplier=2": {"groups": 4, "weight": T((8, 1, *window)), "bias": T((8,))},
        "one_input_channel": {"input": T((2, 1, *size)), "weight": T((6, 1, *window))},
        "one_output_channel": {"weight": T((1, 4, *window)), "bias": T((1,))},
        "window=1": {"weight": T((6, 4, *ones)), "padding": [0] * dimensions},
        "unbatched": {"input": T((4, *size))},
        "computed_weight": {"weight": T((6, 4, *window), computed=True)},
    }  # fmt: skip
    if dimensions == 2:
        changes["window_of_one_row"] = {"weight": T((6, 4, 1, 3)), "padding": [0, 1]}
        changes["unequal_stride"] = {"stride": [2, 1]}
    return Entry(
        name=f"conv{dimensions}d.default",
        plain={
            "input": T((2, 4, *size)), "weight": T((6, 4, *window)), "bias": T((6,)), "stride": ones,
            "padding": ones, "dilation": ones, "groups": 1,
        },
        changes=changes, batched=("input",), channel_axes={"weight": 0}, scales_with=("input", "bias"),
        dynamic={"input": tuple(range(2, 2 + dimensions))},
    )  # fmt: skip


def _conv_transpose(dimensions: int) -> Entry:
    size, window = (5, 6)[:dimensions], (3,) * dimensions
    ones, twos, zeros = [1] * dimensions, [2] * dimensions, [0] * dimensions
    name = f"conv_transpose{dimensions}d." + ("default" if dimensions == 1 else "input")
    return Entry(
        name=name,
        plain={
            "input": T((2, 4, *size)), "weight": T((4, 6, *window)), "bias": T((6,)), "stride": twos,
            "padding": ones, "output_padding": zeros, "groups": 1, "dilation": ones,
        },
        changes={
            "no_bias": {"bias": None},
            "stride=1": {"stride": ones},
            "output_padding=1": {"output_padding": ones},
            "dilation=2": {"dilation": twos},
            "dilation=2,output_padding=1": {"dilation": twos, "output_padding": ones},
            "groups=2": {"groups": 2, "weight": T((4, 3, *window))},
            "groups=4": {"groups": 4, "weight": T((4, 2, *window)), "bias": T((8,))},
            "unbatched": {"input": T((4, *size))},
            # cases that only grouped convolutions have
            "groups=2,unbatched": {
                "input": T((4, *size)), "groups": 2, "weight": T((4, 3, *window)),
            },
            "groups=2,dilation=2,output_padding=1": {
                "groups": 2, "weight": T((4, 3, *window)), "dilation": twos, "output_padding": ones,
            },
            "groups=2,float64": {
                "input": T((2, 4, *size), dtype=torch.float64), "groups": 2,
                "weight": T((4, 3, *window), dtype=torch.float64), "bias": T((6,), dtype=torch.float64),
            },
        },
        batched=("input",), channel_axes={"weight": 1}, scales_with=("input", "bias"),
        dynamic={"input": tuple(range(2, 2 + dimensions))},
    )  # fmt: skip


_CONVOLUTION = Entry(
    name="convolution.default",
    plain={
        "input": T((2, 4, 6, 6)), "weight": T((4, 4, 3, 3)), "bias": T((4,)), "stride": [1, 1],
        "padding": [0, 0], "dilation": [1, 1], "transposed": False, "output_padding": [0, 0], "groups": 1,
    },
    changes={
        "transposed=True": {"transposed": True},
        "transposed=True,groups=2": {"transposed": True, "groups": 2, "weight": T((4, 2, 3, 3))},
        "groups=2": {"groups": 2, "weight": T((4, 2, 3, 3))},
    },
    channel_axes={"weight": 0}, scales_with=("input", "bias"),
)  # fmt: skip

ENTRIES = (
    _conv(2),
    _conv(1),
    _conv_transpose(2),
    _conv_transpose(1),
    _CONVOLUTION,
    Entry(
        name="linear.default",
        plain={"input": T((3, 32)), "weight": T((6, 32)), "bias": T((6,))},
        changes={
            "no_bias": {"bias": None},
            "rank=1": {"input": T((32,))},
            "rank=3": {"input": T((2, 3, 32))},
            "rank=4": {"input": T((2, 2, 3, 32))},
            "inputs=33": {"input": T((3, 33)), "weight": T((6, 33))},
            "inputs=64": {"input": T((3, 64)), "weight": T((6, 64))},
            "outputs=1": {"weight": T((1, 32)), "bias": T((1,))},
            "computed_weight": {"weight": T((6, 32), computed=True)},
        },
        batched=("input",), channel_axes={"weight": 0}, scales_with=("input", "bias"),
    ),
    Entry(
        name="addmm.default",
        plain={"self": T((5,)), "mat1": T((3, 32)), "mat2": T((32, 5))},
        changes={
            "alpha=2": {"alpha": 2}, "beta=2": {"beta": 2}, "matrix_bias": {"self": T((3, 5))},
            "one_row": {"mat1": T((1, 32))},
        },
        batched=("mat1",), channel_axes={"mat2": 1}, scales_with=("mat1", "self"),
    ),
    Entry(
        name="mm.default", plain={"self": T((3, 32)), "mat2": T((32, 4))},
        changes={"one_row": {"self": T((1, 32))}, "one_column": {"mat2": T((32, 1))}},
        batched=("self",), channel_axes={"mat2": 1}, scales_with=("self",),
    ),
    Entry(
        name="bmm.default", plain={"self": T((2, 3, 8)), "mat2": T((2, 8, 4))},
        batched=("self", "mat2"), scales_with=("self",),
    ),
    Entry(
        name="matmul.default", plain={"self": T((3, 32)), "other": T((32, 4))},
        changes={
            "rank=1": {"self": T((32,))},
            "rank=3": {"self": T((2, 3, 32)), "other": T((2, 32, 4))},
            "rank=4": {"self": T((2, 2, 3, 8)), "other": T((2, 2, 8, 4))},
            "broadcast": {"self": T((2, 3, 32))},
        },
        channel_axes={"other": 1}, scales_with=("self",),
    ),
    Entry(
        name="embedding.default", plain={"weight": T((10, 32)), "indices": T((2, 4), below=10)},
        changes={"one_index": {"indices": T((1,), below=10)}}, batched=("indices",),
        channel_axes={"weight": 0},
    ),
    Entry(
        name="layer_norm.default",
        plain={"input": T((2, 3, 8)), "normalized_shape": [8], "weight": T((8,), low=0.5), "bias": T((8,))},
        changes={
            "two_dimensions": {"normalized_shape": [3, 8], "weight": T((3, 8), low=0.5), "bias": T((3, 8))},
            "no_affine": {"weight": None, "bias": None},
        },
        batched=("input",),
    ),
    Entry(
        name="group_norm.default",
        plain={"input": T((2, 4, 6, 5)), "num_groups": 2, "weight": T((4,), low=0.5), "bias": T((4,))},
        batched=("input",),
    ),
    Entry(
        name="scaled_dot_product_attention.default",
        plain={"query": T((2, 2, 4, 8)), "key": T((2, 2, 4, 8)), "value": T((2, 2, 4, 8))},
    ),
)  # fmt: skip
