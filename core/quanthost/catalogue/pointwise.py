"""Entries of elementwise operators: arithmetic of two tensors, activations, and functions of one tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quanthost.catalogue.entries import Arguments, Entry
from quanthost.catalogue.operands import Operand as T

__all__ = ["ENTRIES"]

_SHAPE = (2, 3, 4, 5)
_ONE = (0.0, 1.0)
_SIGNED_ONE = (-1.0, 1.0)


def _binary(
    name: str,
    *,
    changes: Mapping[str, Arguments] | None = None,
    scales: tuple[str, ...] = (),
    low: float = -1.5,
) -> Entry:
    """An operator of two tensors, either of which may be broadcast."""
    other = T(_SHAPE, low=low, high=2.5)
    broadcast = {
        "other_of_channels": {"other": other.resized(1, 3, 1, 1)},
        "other_of_last": {"other": other.resized(5)},
        "other_of_one": {"other": other.resized(1)},
        "other_of_rank_0": {"other": other.resized()},
        "other_is_larger": {"self": T((1, 3, 1, 1))},
    }
    return Entry(
        name=name, plain={"self": T(_SHAPE), "other": other}, changes={**broadcast, **(changes or {})},
        batched=("self", "other"), any_rank=("self", "other"), elementwise=True, scales_with=scales,
        dynamic={"self": (2, 3), "other": (2, 3)},
    )  # fmt: skip


_NUMBER: dict[str, Arguments] = {"number": {"other": 1.5}}
_ALPHA: dict[str, Arguments] = {"alpha=2": {"alpha": 2}, **_NUMBER}

_BINARY = (
    _binary("add.Tensor", changes=_ALPHA, scales=("self", "other")),
    _binary("sub.Tensor", changes=_ALPHA, scales=("self", "other")),
    _binary("mul.Tensor", changes=_NUMBER, scales=("self",)),
    # the divisor stays away from zero in calibration, and in a run a quarter beyond its range
    _binary("div.Tensor", changes=_NUMBER, scales=("self",), low=0.5),
    _binary("maximum.default", scales=("self", "other")),
    _binary("minimum.default", scales=("self", "other")),
    _binary("atan2.default"),
    _binary("fmod.Tensor", low=0.5),
    _binary("remainder.Tensor", low=0.5),
)


def _unary(
    name: str,
    *,
    changes: Mapping[str, Arguments] | None = None,
    low: float = -4.0,
    high: float = 4.0,
    bounds: tuple[float, float] | None = None,
    scales: bool = False,
    **more: Any,
) -> Entry:
    return Entry(
        name=name, plain={"self": T(_SHAPE, low=low, high=high), **more}, changes=changes or {},
        batched=("self",), any_rank=("self",), elementwise=True, result_range=bounds,
        scales_with=("self",) if scales else (), dynamic={"self": (2, 3)},
    )  # fmt: skip


_ACTIVATIONS = (
    _unary("relu.default", scales=True),
    _unary("relu6.default"),
    _unary(
        "hardtanh.default", min_val=-0.5, max_val=0.75,
        changes={"from_0": {"min_val": 0.0, "max_val": 0.4}, "relu6": {"min_val": 0.0, "max_val": 6.0}},
    ),
    _unary(
        "clamp.default", min=-1.0, max=1.5,
        changes={"no_max": {"max": None}, "no_min": {"min": None}, "integers": {"min": -1, "max": 3}},
    ),
    _unary("leaky_relu.default", scales=True, negative_slope=0.1,
           changes={"slope=-1": {"negative_slope": -1.0}, "default_slope": {"negative_slope": 0.01}}),
    _unary("hardswish.default"),
    _unary("hardsigmoid.default", bounds=_ONE),
    _unary("gelu.default", changes={"tanh": {"approximate": "tanh"}}),
    _unary("elu.default", alpha=1.0, changes={
        "alpha=0.5": {"alpha": 0.5}, "defaults": {"alpha": None},
        "scale=2": {"alpha": 0.5, "scale": 2, "input_scale": 1},
        "input_scale=2": {"alpha": 0.5, "scale": 1, "input_scale": 2},
    }),
    _unary("silu.default"),
    _unary("mish.default"),
    _unary("softplus.default"),
    _unary("celu.default"),
    _unary("selu.default"),
    _unary("logit.default", low=0.1, high=0.9, eps=0.05),
    _unary("sigmoid.default", bounds=_ONE),
    _unary("tanh.default", bounds=_SIGNED_ONE),
    Entry(
        name="softmax.int", plain={"self": T((2, 3, 4), low=-4.0, high=4.0), "dim": -1},
        changes={
            "dim=1": {"dim": 1}, "dim=0": {"dim": 0}, "positive_last_dim": {"dim": 2},
        },
        batched=("self",), any_rank=("self",), result_range=_ONE,
    ),
    Entry(
        name="log_softmax.int", plain={"self": T((2, 3, 4), low=-4.0, high=4.0), "dim": -1},
        changes={"dim=1": {"dim": 1}}, batched=("self",), any_rank=("self",),
    ),
    Entry(
        name="prelu.default", plain={"self": T((2, 3, 4, 5)), "weight": T((3,), low=0.05, high=0.6)},
        changes={
            "one_slope": {"weight": T((1,), low=0.25, high=0.25)},
            "negative_slopes": {"weight": T((3,), low=-0.5, high=0.6)},
            "rank=2": {"self": T((2, 3))}, "rank=3": {"self": T((2, 3, 4))},
            "rank=5": {"self": T((2, 3, 4, 5, 2))},
        },
        batched=("self",), elementwise=True, scales_with=("self",),
    ),
)  # fmt: skip

_FUNCTIONS = (
    _unary("abs.default", scales=True),
    _unary("neg.default", scales=True),
    _unary("floor.default"),
    _unary("ceil.default"),
    _unary("round.default"),
    _unary("trunc.default"),
    _unary("sign.default"),
    _unary("exp.default", high=2.0),
    _unary("expm1.default", high=2.0),
    _unary("sin.default", bounds=_SIGNED_ONE),
    _unary("cos.default", bounds=_SIGNED_ONE),
    _unary("tan.default", low=-1.0, high=1.0),
    _unary("atan.default"),
    _unary("erf.default", bounds=_SIGNED_ONE),
    _unary("sqrt.default", low=0.1),
    _unary("rsqrt.default", low=0.1),
    _unary("reciprocal.default", low=0.5),
    _unary("log.default", low=0.1),
    _unary("log1p.default", low=0.1),
    _unary("square.default"),
    _unary("sinh.default", low=-2.0, high=2.0),
    _unary("cosh.default", low=-2.0, high=2.0),
    _unary("pow.Tensor_Scalar", exponent=2, changes={
        "exponent=3": {"exponent": 3}, "exponent=2.0": {"exponent": 2.0},
        "exponent=0.5": {"self": T(_SHAPE, low=0.1, high=4.0), "exponent": 0.5},
    }),
    _unary("div.Scalar", other=1.5, scales=True),
    _unary("add.Scalar", other=1.5),
    _unary("mul.Scalar", other=-1.5, scales=True),
    Entry(
        name="where.self",
        plain={"condition": T(_SHAPE, below=2, boolean=True), "self": T(_SHAPE), "other": T(_SHAPE)},
    ),
    Entry(name="masked_fill.Scalar",
          plain={"self": T(_SHAPE), "mask": T(_SHAPE, below=2, boolean=True), "value": -math.pi}),
)  # fmt: skip

ENTRIES = (*_BINARY, *_ACTIVATIONS, *_FUNCTIONS)
