"""The observer that torchao inserts for a qspec: it collects mergeable statistics and computes the range."""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import fx
from torchao.quantization.pt2e.observer import ObserverBase
from torchao.quantization.pt2e.utils import create_getattr_from_value

from quanthost.arith.affine import qparams_from_range
from quanthost.arith.channel_range import ChannelRange, RangeStatistics, merge_ranges
from quanthost.arith.dtypes import torch_dtype
from quanthost.arith.estimate import choose_range
from quanthost.arith.sketch import RangeSketch
from quanthost.graph.view import constant
from quanthost.values import (
    Estimator,
    Granularity,
    QSpec,
    RangeEstimator,
    ScaleFormat,
    Symmetry,
    Timing,
)

__all__ = ["RangeObserver", "torch_qscheme"]

_QSCHEMES = {
    (False, Symmetry.SYMMETRIC): torch.per_tensor_symmetric,
    (False, Symmetry.AFFINE): torch.per_tensor_affine,
    (True, Symmetry.SYMMETRIC): torch.per_channel_symmetric,
    (True, Symmetry.AFFINE): torch.per_channel_affine,
}
_ops = torch.ops.quantized_decomposed


def torch_qscheme(spec: QSpec) -> torch.qscheme:
    per_channel = spec.granularity in (Granularity.PER_CHANNEL, Granularity.PER_GROUP)
    return _QSCHEMES[per_channel, spec.symmetry]


class RangeObserver(ObserverBase):  # type: ignore[misc]  # torchao is untyped
    """Observes one tensor, or a sharing group of tensors, for one qspec.

    ``once`` is set if all tensors are constants: the observer reads them at the first forward only. With a
    dynamic spec it observes nothing.
    """

    def __init__(self, *, spec: QSpec, once: bool = False, **_: Any) -> None:
        super().__init__(dtype=torch_dtype(spec.dtype), is_dynamic=spec.timing is Timing.DYNAMIC)
        self.spec = spec
        self.once = once
        # a list, since a module takes long to set a number
        self._batches = [0]
        self.quant_min, self.quant_max = spec.quant_min, spec.quant_max
        self.qscheme = torch_qscheme(spec)
        self.ch_axis = spec.axis if spec.axis is not None else -1
        self.eps = torch.finfo(torch.float32).eps
        self.statistics = self._empty()
        # cache, since computing qparams takes milliseconds; copies of the observer share it
        self._qparams: dict[RangeEstimator, tuple[torch.Tensor, torch.Tensor]] = {}
        # the estimator that AUTO resolves to
        self.chosen: RangeEstimator | None = None
        # lower bound for the scales of a symmetric weight, see leave_room
        self.least_scale: torch.Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> RangeObserver:
        # the default deepcopy would copy the immutable spec and a dozen empty dictionaries of hooks
        copied = RangeObserver(spec=self.spec, once=self.once)
        memo[id(self)] = copied
        copied.training = self.training
        copied.statistics = copy.deepcopy(self.statistics, memo)
        copied._batches, copied._qparams = [self.batches], self._qparams
        copied.chosen, copied.least_scale = self.chosen, self.least_scale
        return copied

    def _empty(self) -> RangeStatistics:
        if self.spec.granularity is Granularity.PER_CHANNEL:
            assert self.spec.axis is not None
            return ChannelRange(self.spec.axis)
        if self.spec.granularity is Granularity.PER_GROUP:
            return ChannelRange(0)
        return RangeSketch()

    @property
    def batches(self) -> int:
        """Number of forwards that reached this observer."""
        return self._batches[0]

    @property
    def observes_data(self) -> bool:
        """Whether the range comes from data: not from a constant, and not at run time."""
        return not self.is_dynamic and not self.once

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self.is_dynamic and not (self.once and self.batches):
            self._qparams = {}
            self.statistics.update(self._grouped(tensor.detach()))
        self._batches[0] += 1
        return tensor

    def update_function(self, density: float = 1.0) -> Callable[[torch.Tensor], None]:
        """A function that adds a tensor to the statistics without the cost of a module call; for data only.

        ``density`` is the sample's density, see ``RangeSketch.update``.
        """
        self._qparams = {}
        if self.spec.granularity is Granularity.PER_GROUP:
            return self._update_groups
        if isinstance(self.statistics, RangeSketch) and density > 1.0:
            return functools.partial(self.statistics.update, density=density)
        return self.statistics.update

    def _update_groups(self, tensor: torch.Tensor) -> None:
        self.statistics.update(self._grouped(tensor))

    def adopt(self, statistics: RangeStatistics) -> None:
        """Replace the statistics by a copy of another observer's statistics of the same tensor."""
        self._qparams = {}
        self.statistics = copy.deepcopy(statistics)
        self._batches[0] += 1

    def empty_copy(self) -> RangeObserver:
        """An observer for the same qspec without statistics; see ``add``."""
        return RangeObserver(spec=self.spec, once=self.once)

    def add(self, other: RangeObserver) -> None:
        """Merge the other observer's statistics into this one's."""
        self._qparams = {}
        self.statistics = merge_ranges(self.statistics, other.statistics)

    def _grouped(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.spec.granularity is not Granularity.PER_GROUP:
            return tensor
        return tensor.reshape(-1, self.spec.group_size)

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale (float32) and zero point (int64): one element, or one a channel or group."""
        estimator = self._estimator()
        if estimator not in self._qparams:
            spec = attrs.evolve(self.spec, estimator=estimator)
            self._qparams[estimator] = qparams_from_range(*self._range(spec), spec)
        scale, zero_point = self._qparams[estimator]
        if self.least_scale is not None:
            scale = torch.maximum(scale, self.least_scale.to(scale.dtype).reshape(scale.shape))
        if self.spec.scale_format is ScaleFormat.BFLOAT16:
            scale = scale.to(torch.bfloat16)
        return scale.to(torch.float32), zero_point.to(torch.int64)

    def _range(self, spec: QSpec) -> tuple[torch.Tensor, torch.Tensor]:
        if isinstance(self.statistics, ChannelRange):
            return self.statistics.minimum, self.statistics.maximum
        low, high = choose_range(self.statistics, spec)
        return torch.tensor(low), torch.tensor(high)

    def leave_room(self, bias: torch.Tensor, input_scale: torch.Tensor) -> None:
        """Keep a bias ``[C]`` in units of ``input scale × weight scale`` below 2^30, by larger weight scales.

        A channel whose weights are almost zero has a tiny scale, and its bias in units of that scale exceeds
        int32. Saturation would change the bias. Weights that small do not matter beside the bias.
        """
        if self.spec.symmetry is not Symmetry.SYMMETRIC:
            return
        least = bias.detach().abs().double() / (float(input_scale) * 2.0**30)
        if self.spec.granularity is not Granularity.PER_CHANNEL:
            least = least.amax().reshape(1)
        self.least_scale = least if self.least_scale is None else torch.maximum(self.least_scale, least)

    def _estimator(self) -> RangeEstimator:
        estimator = self.spec.estimator
        if estimator.kind is not Estimator.AUTO:
            return estimator
        return self.chosen if self.chosen is not None else RangeEstimator(kind=Estimator.MSE)

    def __getattr__(self, name: str) -> Any:
        # torchao calls convert() if an observer has one; only two layouts need it
        if name == "convert":
            layouts = {Granularity.PER_GROUP: self._to_groups, Granularity.PER_TOKEN: self._to_tokens}
            if self.spec.granularity in layouts:
                return layouts[self.spec.granularity]
        return super().__getattr__(name)

    def _to_groups(self, model: fx.GraphModule, node: fx.Node) -> None:
        """Store integer weights, scales and zero points as buffers, and insert a dequantize for each user."""
        source = node.args[0]
        weight = constant(model, source)
        assert weight is not None
        assert self.spec.group_size is not None
        scale, zero_point = (value.reshape(weight.shape[0], -1) for value in self.calculate_qparams())
        limits = (self.quant_min, self.quant_max, self.dtype, self.spec.group_size)
        integers = _ops.quantize_per_channel_group(
            weight.detach(), scale, zero_point.to(torch.int32), *limits
        )
        graph = model.graph
        with graph.inserting_before(node):
            attributes = [
                create_getattr_from_value(model, graph, name, value)
                for name, value in (
                    ("_weight_int4_", integers),
                    ("_scale_", scale),
                    ("_zero_point_", zero_point.to(torch.int32)),
                )
            ]
            for user in list(node.users):
                dequantized = graph.call_function(
                    _ops.dequantize_per_channel_group.default, (*attributes, *limits, torch.float32)
                )
                user.replace_input_with(node, dequantized)
        graph.erase_node(node)

    def _to_tokens(self, model: fx.GraphModule, node: fx.Node) -> None:
        """Insert choose, quantize and dequantize for each user: each kernel absorbs a chain of its own."""
        graph = model.graph
        activation = node.args[0]
        limits = (self.quant_min, self.quant_max, self.dtype)
        for user in list(node.users):
            with graph.inserting_before(node):
                chosen = graph.call_function(
                    _ops.choose_qparams_per_token_asymmetric.default, (activation, self.dtype)
                )
                parameters = [graph.call_function(operator.getitem, (chosen, i)) for i in (0, 1)]
                quantized = graph.call_function(
                    _ops.quantize_per_token.default, (activation, *parameters, *limits)
                )
                dequantized = graph.call_function(
                    _ops.dequantize_per_token.default, (quantized, *parameters, *limits, torch.float32)
                )
            user.replace_input_with(node, dequantized)
        graph.erase_node(node)
