"""Facts about aten operators that hold for every backend, one row for each operator."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs
from torch import fx

from quanthost.graph.operators import base_name

__all__ = ["FACTS", "OperatorFacts", "facts_of", "operator_facts"]

_LAYER = ("input", "weight")
_INFINITE = float("inf")


@attrs.frozen
class OperatorFacts:
    """The facts of one aten operator, in all its overloads; arguments go by their schema names.

    Attributes:
        name: The name without namespace and overload, ``"conv2d"``.
        factors: The two arguments whose products it sums, ``None`` if it sums no products.
        bias: The argument that is added to these sums, one number for each output channel.
        channel_axis: The axis of the result's channels, counted from the end, so that it holds with and
            without a batch dimension; ``None`` if there is none, or it depends on the call.
        weight_axis: The axis of the weight's output channels, ``None`` likewise.
        moves: The result holds values of the first operand, all or some, in whatever place. The operator
            does the same to integers as to floats.
        observed_before: The result holds the values of the first operand, so that calibration observes
            only the operand where both share an observer. Some operators with ``moves`` could have it too,
            but counting their values once would change calibrated ranges. The pools select values as well;
            they pad with -inf, so that they do not have ``moves``.
        copies: The result is the first operand, in another memory layout or dtype at most.
        clamps: It only limits values to this lower and upper bound; a string names the argument that has it.
        absorbs_sentinels: The result is an ordinary number where an operand is a mask sentinel.
        is_dropout: It returns its input in evaluation.
        has_pole: The result is infinite for a zero operand.
        statistics_switch: The argument that makes it write ``running_mean`` and ``running_var``, which its
            schema does not say.
        is_elementwise: Each element of the result is a function of the same element of one tensor, though
            torch does not tag the operator as pointwise.
    """

    name: str
    factors: tuple[str, str] | None = attrs.field(default=None, kw_only=True)
    bias: str | None = attrs.field(default=None, kw_only=True)
    channel_axis: int | None = attrs.field(default=None, kw_only=True)
    weight_axis: int | None = attrs.field(default=None, kw_only=True)
    moves: bool = attrs.field(default=False, kw_only=True)
    observed_before: bool = attrs.field(default=False, kw_only=True)
    copies: bool = attrs.field(default=False, kw_only=True)
    clamps: tuple[float | str, float | str] | None = attrs.field(default=None, kw_only=True)
    absorbs_sentinels: bool = attrs.field(default=False, kw_only=True)
    is_dropout: bool = attrs.field(default=False, kw_only=True)
    has_pole: bool = attrs.field(default=False, kw_only=True)
    statistics_switch: str | None = attrs.field(default=None, kw_only=True)
    is_elementwise: bool = attrs.field(default=False, kw_only=True)

    @property
    def is_layer(self) -> bool:
        """Whether it is a linear layer or a convolution: arguments ``input``, ``weight`` and ``bias``."""
        return self.factors == _LAYER

    @property
    def is_convolution(self) -> bool:
        return self.is_layer and self.channel_axis != -1


_ROWS = (
    OperatorFacts("_softmax", absorbs_sentinels=True),
    OperatorFacts("_to_copy", copies=True),
    OperatorFacts("_unsafe_view", moves=True),
    OperatorFacts("addmm", factors=("mat1", "mat2"), bias="self"),
    OperatorFacts("addmv", factors=("mat", "vec")),
    OperatorFacts("alias", moves=True, observed_before=True),
    OperatorFacts("alpha_dropout", is_dropout=True),
    OperatorFacts("amax", moves=True),
    OperatorFacts("amin", moves=True),
    OperatorFacts("argmax", absorbs_sentinels=True),
    OperatorFacts("baddbmm", factors=("batch1", "batch2")),
    OperatorFacts("batch_norm", statistics_switch="training"),
    OperatorFacts("bitwise_not", absorbs_sentinels=True),
    OperatorFacts("bmm", factors=("self", "mat2")),
    OperatorFacts("clamp", clamps=("min", "max"), absorbs_sentinels=True),
    OperatorFacts("clone", moves=True, observed_before=True, copies=True),
    OperatorFacts("contiguous", moves=True, observed_before=True, copies=True),
    OperatorFacts("conv1d", factors=_LAYER, bias="bias", channel_axis=-2, weight_axis=0),
    OperatorFacts("conv2d", factors=_LAYER, bias="bias", channel_axis=-3, weight_axis=0),
    OperatorFacts("conv3d", factors=_LAYER, bias="bias", channel_axis=-4, weight_axis=0),
    OperatorFacts("conv_transpose1d", factors=_LAYER, bias="bias", channel_axis=-2, weight_axis=1),
    OperatorFacts("conv_transpose2d", factors=_LAYER, bias="bias", channel_axis=-3, weight_axis=1),
    OperatorFacts("conv_transpose3d", factors=_LAYER, bias="bias", channel_axis=-4, weight_axis=1),
    # of any rank, transposed or not
    OperatorFacts("convolution", factors=_LAYER, bias="bias"),
    OperatorFacts("detach", moves=True),
    OperatorFacts("div", has_pole=True),
    OperatorFacts("dot", factors=("self", "tensor")),
    OperatorFacts("dropout", is_dropout=True),
    OperatorFacts("embedding", absorbs_sentinels=True),
    OperatorFacts("eq", absorbs_sentinels=True),
    OperatorFacts("exp", absorbs_sentinels=True),
    OperatorFacts("expand", moves=True, observed_before=True),
    OperatorFacts("expand_as", moves=True),
    OperatorFacts("feature_dropout", is_dropout=True),
    OperatorFacts("flatten", moves=True, observed_before=True),
    OperatorFacts("flip", moves=True),
    OperatorFacts("gather", moves=True),
    OperatorFacts("ge", absorbs_sentinels=True),
    OperatorFacts("gt", absorbs_sentinels=True),
    OperatorFacts("hardsigmoid", absorbs_sentinels=True),
    OperatorFacts("hardswish", is_elementwise=True),
    OperatorFacts("hardtanh", clamps=("min_val", "max_val"), absorbs_sentinels=True),
    OperatorFacts("index", moves=True),
    OperatorFacts("index_select", moves=True),
    OperatorFacts("instance_norm", statistics_switch="use_input_stats"),
    OperatorFacts("isfinite", absorbs_sentinels=True),
    OperatorFacts("isinf", absorbs_sentinels=True),
    OperatorFacts("isnan", absorbs_sentinels=True),
    OperatorFacts("isneginf", absorbs_sentinels=True),
    OperatorFacts("le", absorbs_sentinels=True),
    OperatorFacts("linear", factors=_LAYER, bias="bias", channel_axis=-1, weight_axis=0),
    OperatorFacts("logical_not", absorbs_sentinels=True),
    OperatorFacts("lt", absorbs_sentinels=True),
    OperatorFacts("matmul", factors=("self", "other")),
    OperatorFacts("max_pool1d", observed_before=True),
    OperatorFacts("max_pool2d", observed_before=True),
    OperatorFacts("mm", factors=("self", "mat2")),
    OperatorFacts("movedim", moves=True),
    OperatorFacts("mv", factors=("self", "vec")),
    OperatorFacts("narrow", moves=True, observed_before=True),
    OperatorFacts("native_batch_norm", statistics_switch="training"),
    OperatorFacts("ne", absorbs_sentinels=True),
    OperatorFacts("permute", moves=True, observed_before=True),
    OperatorFacts("pixel_shuffle", moves=True),
    OperatorFacts("pixel_unshuffle", moves=True),
    OperatorFacts("reciprocal", has_pole=True),
    OperatorFacts("relu", clamps=(0.0, _INFINITE)),
    OperatorFacts("relu6", clamps=(0.0, 6.0), absorbs_sentinels=True),
    OperatorFacts("repeat", moves=True),
    OperatorFacts("reshape", moves=True, observed_before=True),
    OperatorFacts("roll", moves=True),
    OperatorFacts("rsqrt", has_pole=True),
    OperatorFacts("scaled_dot_product_attention", absorbs_sentinels=True),
    OperatorFacts("select", moves=True, observed_before=True),
    OperatorFacts("sigmoid", absorbs_sentinels=True),
    OperatorFacts("slice", moves=True, observed_before=True),
    OperatorFacts("softmax", absorbs_sentinels=True),
    OperatorFacts("squeeze", moves=True, observed_before=True),
    OperatorFacts("t", moves=True, observed_before=True),
    OperatorFacts("tanh", absorbs_sentinels=True),
    OperatorFacts("to", copies=True),
    OperatorFacts("transpose", moves=True, observed_before=True),
    OperatorFacts("unflatten", moves=True, observed_before=True),
    OperatorFacts("unfold", moves=True),
    OperatorFacts("unsqueeze", moves=True, observed_before=True),
    OperatorFacts("view", moves=True, observed_before=True),
    OperatorFacts("view_as", moves=True),
)

FACTS: Mapping[str, OperatorFacts] = MappingProxyType({row.name: row for row in _ROWS})
"""By the operator's name without namespace and overload, in the order of the alphabet."""


def facts_of(name: str) -> OperatorFacts:
    """The facts by an operator's base name; no fact holds for an operator that is not in the table."""
    return FACTS.get(name) or OperatorFacts(name)


def operator_facts(node: fx.Node) -> OperatorFacts:
    """The facts of the operator that a node calls; empty facts if it is no aten operator."""
    return facts_of(base_name(node))
