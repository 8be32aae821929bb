"""Entries of operators that move, join, select or reduce values: pools, shapes, slices, reductions."""

from __future__ import annotations

from typing import Any

import torch

from quanthost.catalogue.entries import Arguments, Entry
from quanthost.catalogue.operands import Operand as T

__all__ = ["ENTRIES"]

_IMAGE = T((2, 4, 8, 7))
_LINE = T((2, 4, 8))
_FEW = T((4, 8, 7))


def _moves(name: str, plain: Arguments, **more: Any) -> Entry:
    """An operator whose result contains only values of its first tensor."""
    first = next(key for key, value in plain.items() if isinstance(value, T))
    return Entry(name=name, plain=plain, moves=True, joins=(first,), scales_with=(first,), **more)


_POOLS = (
    _moves(
        "max_pool2d.default", {"self": _IMAGE, "kernel_size": [2, 2], "stride": [2, 2]},
        changes={
            "window=3": {"kernel_size": [3, 3]}, "window=3x2": {"kernel_size": [3, 2]},
            "padding=1": {"kernel_size": [3, 3], "padding": [1, 1]},
            "dilation=2": {"padding": [0, 0], "dilation": [2, 2]},
            "ceil_mode": {"kernel_size": [3, 3], "padding": [0, 0], "dilation": [1, 1], "ceil_mode": True},
            "stride_exceeds_window": {"stride": [3, 3]}, "stride=1": {"stride": [1, 1]},
            "no_stride": {"stride": []}, "unbatched": {"self": _FEW},
        },
        batched=("self",), dynamic={"self": (2, 3)},
    ),
    _moves(
        "max_pool1d.default", {"self": _LINE, "kernel_size": [2], "stride": [2]},
        changes={"padding=1": {"kernel_size": [3], "padding": [1]}}, batched=("self",),
    ),
    Entry(
        name="avg_pool2d.default", plain={"self": _IMAGE, "kernel_size": [2, 2], "stride": [2, 2]},
        changes={
            "window=3": {"kernel_size": [3, 3]}, "stride=1": {"stride": [1, 1]},
            "ceil_mode": {"kernel_size": [4, 4], "stride": [3, 3], "padding": [0, 0], "ceil_mode": True},
            "padding=1": {"padding": [1, 1]},
            "padding_not_counted": {"padding": [1, 1], "ceil_mode": False, "count_include_pad": False},
            "divisor=4": {"padding": [0, 0], "ceil_mode": False, "count_include_pad": True,
                          "divisor_override": 4},
            "divisor=3": {"padding": [0, 0], "ceil_mode": False, "count_include_pad": True,
                          "divisor_override": 3},
            "unbatched": {"self": _FEW},
        },
        batched=("self",), scales_with=("self",), dynamic={"self": (2, 3)},
    ),
    Entry(
        name="avg_pool1d.default", plain={"self": _LINE, "kernel_size": [2], "stride": [2]},
        changes={"padding=1": {"padding": [1]}}, batched=("self",), scales_with=("self",),
    ),
    Entry(
        name="adaptive_avg_pool2d.default", plain={"self": _IMAGE, "output_size": [1, 1]},
        changes={
            "output=1x2": {"output_size": [1, 2]}, "output=4x7": {"output_size": [4, 7]},
            "unbatched": {"self": _FEW},
        },
        batched=("self",), scales_with=("self",),
    ),
    Entry(
        name="adaptive_avg_pool1d.default", plain={"self": _LINE, "output_size": [1]},
        changes={"output=4": {"output_size": [4]}}, batched=("self",), scales_with=("self",),
    ),
    Entry(
        name="mean.dim", plain={"self": _IMAGE, "dim": [2, 3], "keepdim": True},
        changes={
            "dim=-1,-2": {"dim": [-1, -2]}, "dim=1,2": {"dim": [1, 2]}, "dim=3": {"dim": [3]},
            "dim=1": {"dim": [1]}, "drops": {"keepdim": False}, "rank=3": {"self": _FEW, "dim": [1, 2]},
            "rank=2": {"self": T((2, 8)), "dim": [1]},
        },
        batched=("self",), scales_with=("self",), dynamic={"self": (2, 3)},
    ),
    Entry(name="mean.default", plain={"self": _LINE}, scales_with=("self",)),
    _moves("upsample_nearest2d.vec", {"input": _IMAGE, "output_size": None, "scale_factors": [2.0, 2.0]},
           batched=("input",)),
    Entry(
        name="upsample_bilinear2d.vec",
        plain={"input": _IMAGE, "output_size": [9, 11], "align_corners": False, "scale_factors": None},
        changes={
            "align_corners": {"align_corners": True}, "smaller": {"output_size": [3, 4]},
            "factors": {"output_size": None, "scale_factors": [1.5, 2.0]},
        },
        batched=("input",), scales_with=("input",), dynamic={"input": (2, 3)},
        dynamic_changes=("factors",),
    ),
)  # fmt: skip

_JOINS = (
    Entry(
        name="cat.default",
        plain={"tensors": [T((2, 3, 4, 5)), T((2, 3, 4, 5), low=-0.5, high=0.75)], "dim": 1},
        changes={
            "one_tensor": {"tensors": [T((2, 3, 4, 5))]},
            "last_dim": {"dim": -1}, "dim=0": {"dim": 0},
            "three": {"tensors": [T((2, 3)), T((2, 1), low=-0.5), T((2, 2), high=0.5)]},
            "six": {"tensors": [T((2, 1 + i), high=1.0 + i) for i in range(6)]},
            "rank=1": {"tensors": [T((4,)), T((5,), high=1.0)], "dim": 0},
            "no_tensor_is_empty": {"tensors": [T((2, 3)), T((2, 3), low=0.5)], "dim": 0},
        },
        moves=True, joins=("tensors",), scales_with=("tensors",), batched=("tensors",),
    ),
    Entry(
        name="stack.default", plain={"tensors": [T((2, 3)), T((2, 3), low=-0.5, high=0.75)], "dim": 0},
        changes={"dim=1": {"dim": 1}}, moves=True, joins=("tensors",), scales_with=("tensors",),
    ),
)  # fmt: skip

_SHAPES = (
    _moves(
        "pad.default", {"self": T((2, 3, 4, 5)), "pad": [1, 2], "mode": "constant", "value": 0.0},
        changes={
            "two_dimensions": {"pad": [2, 1, 1, 0]}, "three_dimensions": {"pad": [1, 0, 0, 1, 2, 1]},
            "value=0.5": {"value": 0.5}, "negative": {"pad": [-1, 0]}, "no_value": {"value": None},
            "reflect": {"pad": [1, 1, 1, 1], "mode": "reflect", "value": None},
            "replicate": {"pad": [1, 1, 1, 1], "mode": "replicate", "value": None},
            "circular": {"pad": [1, 1, 1, 1], "mode": "circular", "value": None},
            "rank=2": {"self": T((3, 4))},
        },
        batched=("self",),
    ),
    _moves(
        "constant_pad_nd.default", {"self": T((2, 3, 4, 5)), "pad": [1, 2], "value": 0.0},
        changes={"value=0.5": {"value": 0.5}, "two_dimensions": {"pad": [2, 1, 1, 0]}}, batched=("self",),
    ),
    _moves(
        "slice.Tensor", {"self": T((2, 4, 6)), "dim": 1, "start": 1, "end": 3, "step": 1},
        changes={
            "step=2": {"start": 0, "end": 4, "step": 2}, "from_-4": {"start": -4}, "from_-5": {"start": -5},
            "to_the_end": {"end": 9223372036854775807}, "to_-1": {"end": -1}, "last_dim": {"dim": -1},
            "dim=0": {"dim": 0, "start": 0, "end": 1}, "empty": {"start": 2, "end": 2},
        },
        batched=("self",), dynamic={"self": (2,)},
    ),
    _moves(
        "view.default", {"self": T((2, 3, 4)), "size": [2, -1]},
        changes={
            "flat": {"size": [-1]}, "one_more": {"size": [2, 3, 4, 1]}, "apart": {"size": [2, 3, 2, 2]},
            "rank=7": {"size": [2, 3, 2, 2, 1, 1, 1]}, "rank=6": {"size": [2, 3, 2, 2, 1, 1]},
        },
    ),
    _moves("reshape.default", {"self": T((2, 3, 4)), "shape": [2, -1]}, changes={"flat": {"shape": [-1]}}),
    _moves(
        "flatten.using_ints", {"self": T((2, 3, 4)), "start_dim": 1, "end_dim": -1},
        changes={"all": {"start_dim": 0}, "last_two": {"self": T((2, 3, 4, 5)), "start_dim": 2}},
        batched=("self",), dynamic={"self": (0, 2)},
    ),
    _moves("unflatten.int", {"self": T((2, 3, 4)), "dim": 2, "sizes": [2, 2]}, batched=("self",)),
    _moves("squeeze.dim", {"self": T((2, 1, 4)), "dim": 1}, changes={"nothing": {"dim": 0}}),
    _moves("unsqueeze.default", {"self": T((2, 3, 4)), "dim": 1}, changes={"last": {"dim": -1}},
           batched=("self",)),
    _moves(
        "permute.default", {"self": T((2, 3, 4)), "dims": [0, 2, 1]},
        changes={
            "all": {"dims": [2, 0, 1]}, "rank=4": {"self": T((2, 3, 4, 5)), "dims": [0, 2, 3, 1]},
            "rank=2": {"self": T((3, 4)), "dims": [1, 0]}, "nothing": {"dims": [0, 1, 2]},
            "rank=6": {"self": T((2, 3, 1, 2, 2, 1)), "dims": [5, 4, 3, 2, 1, 0]},
        },
        batched=("self",),
    ),
    _moves("transpose.int", {"self": T((2, 3, 4)), "dim0": 1, "dim1": 2},
           changes={"negative": {"dim0": -1, "dim1": 0}}, batched=("self",)),
    _moves("t.default", {"self": T((3, 4))}),
    _moves("select.int", {"self": T((2, 3, 4)), "dim": 1, "index": 1}, changes={"last": {"index": -1}},
           batched=("self",)),
    _moves("expand.default", {"self": T((1, 3, 4)), "size": [2, 3, 4]},
           changes={"one_more": {"size": [2, 1, 3, 4]}}),
    _moves(
        "clone.default", {"self": T((2, 3, 4))},
        changes={
            "to_channels_last": {"self": T((2, 3, 4, 5)), "memory_format": torch.channels_last},
            "to_contiguous": {
                "self": T((2, 3, 4, 5), layout="channels_last"), "memory_format": torch.contiguous_format,
            },
        },
        batched=("self",), any_rank=("self",),
    ),
    _moves("contiguous.default", {"self": T((2, 3, 4))}, batched=("self",)),
    _moves("repeat.default", {"self": T((2, 3)), "repeats": [2, 1]}),
    _moves("flip.default", {"self": T((2, 3, 4)), "dims": [1]}),
    _moves("roll.default", {"self": T((2, 3, 4)), "shifts": [1], "dims": [1]}),
    _moves("tril.default", {"self": T((4, 4))}),
    _moves("pixel_shuffle.default", {"self": T((2, 4, 3, 3)), "upscale_factor": 2}, batched=("self",)),
    _moves("index_select.default", {"self": T((2, 5, 4)), "dim": 1, "index": T((3,), below=5)}),
    _moves("gather.default", {"self": T((2, 5)), "dim": 1, "index": T((2, 3), below=5)}),
    _moves("dropout.default", {"input": T((2, 3, 4)), "p": 0.5, "train": False}, batched=("input",)),
    _moves("feature_dropout.default", {"input": T((2, 3, 4)), "p": 0.5, "train": False}),
    _moves("split.Tensor", {"self": T((2, 4, 6)), "split_size": 2, "dim": 1}),
    _moves("chunk.default", {"self": T((2, 4, 6)), "chunks": 2, "dim": 1}),
    _moves("unbind.int", {"self": T((2, 3, 4)), "dim": 1}),
)  # fmt: skip

_REDUCTIONS = (
    _moves(
        "max.dim", {"self": _IMAGE, "dim": 2, "keepdim": True},
        changes={
            "dim=3": {"dim": 3}, "dim=1": {"dim": 1}, "negative": {"dim": -1},
            "drops": {"keepdim": False}, "unbatched": {"self": _FEW},
        },
        batched=("self",),
    ),
    _moves("min.dim", {"self": _IMAGE, "dim": 2, "keepdim": True}),
    _moves(
        "amax.default", {"self": _IMAGE, "dim": [2, 3], "keepdim": True},
        changes={"dim=-1": {"dim": [-1]}, "dim=1": {"dim": [1]}, "drops": {"keepdim": False}},
        batched=("self",),
    ),
    _moves("amin.default", {"self": _IMAGE, "dim": [2, 3], "keepdim": True}, batched=("self",)),
    _moves("topk.default", {"self": T((2, 6)), "k": 2}),
    Entry(name="sum.dim_IntList", plain={"self": _LINE, "dim": [1], "keepdim": True}, scales_with=("self",)),
    Entry(name="prod.dim_int", plain={"self": T((2, 3), low=0.5), "dim": 1}),
    Entry(name="var.correction", plain={"self": _LINE, "dim": [1]}),
    Entry(name="logsumexp.default", plain={"self": _LINE, "dim": [1]}),
    Entry(name="cumsum.default", plain={"self": T((2, 6)), "dim": 1}, scales_with=("self",)),
    Entry(name="glu.default", plain={"self": T((2, 6)), "dim": 1}),
    Entry(name="argmax.default", plain={"self": T((2, 6)), "dim": 1}),
    Entry(name="gt.Tensor", plain={"self": T((2, 6)), "other": T((2, 6), low=-1.0)}),
)  # fmt: skip

ENTRIES = (*_POOLS, *_JOINS, *_SHAPES, *_REDUCTIONS)
