"""The observer that torchao inserts for a qspec: it keeps a mergeable sketch and answers with its range."""

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

    ``once`` is set where all of them are constants, which are read at the first forward only. Dynamic
    specs observe nothing.
    """

    def __init__(self, *, spec: QSpec, once: bool = False, **_: Any) -> None:
        super().__init__(dtype=torch_dtype(spec.dtype), is_dynamic=spec.timing is Timing.DYNAMIC)
        self.spec = spec
        self.once = once
        # a list, since a module takes long to set a number
        self._seen = [0]
        self.quant_min, self.quant_max = spec.quant_min, spec.quant_max
        self.qscheme = torch_qscheme(spec)
        self.ch_axis = spec.axis if spec.axis is not None else -1
        self.eps = torch.finfo(torch.float32).eps
        self.statistics = self._empty()
        # what was computed of the statistics, which takes milliseconds; copies add to it together
        self._qparams: dict[RangeEstimator, tuple[torch.Tensor, torch.Tensor]] = {}
        # what AUTO turned out to be
        self.chosen: RangeEstimator | None = None
        # scales of a symmetric weight are no smaller, see leave_room
        self.least_scale: torch.Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> RangeObserver:
        # a module's own way copies the spec, a value, and a dozen empty dictionaries of hooks
        made = RangeObserver(spec=self.spec, once=self.once)
        memo[id(self)] = made
        made.training = self.training
        made.statistics = copy.deepcopy(self.statistics, memo)
        made._seen, made._qparams = [self.batches], self._qparams
        made.chosen, made.least_scale = self.chosen, self.least_scale
        return made

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
        return self._seen[0]

    @property
    def is_of_data(self) -> bool:
        """Whether the range comes from data: not from a constant, and not at run time."""
        return not self.is_dynamic and not self.once

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self.is_dynamic and not (self.once and self.batches):
            self._qparams = {}
            self.statistics.update(self._grouped(tensor.detach()))
        self._seen[0] += 1
        return tensor

    def taking(self, density: float = 1.0) -> Callable[[torch.Tensor], None]:
        """What takes in a tensor without all that surrounds the call of a module; of data only.

        ``density`` is that of the sample, see ``RangeSketch.update``.
        """
        self._qparams = {}
        if self.spec.granularity is Granularity.PER_GROUP:
            return self._take_groups
        if isinstance(self.statistics, RangeSketch) and density > 1.0:
            return functools.partial(self.statistics.update, density=density)
        return self.statistics.update

    def _take_groups(self, tensor: torch.Tensor) -> None:
        self.statistics.update(self._grouped(tensor))

    def take(self, statistics: RangeStatistics) -> None:
        """Have seen what another observer of the tensor saw; what is handed in stays as it is."""
        self._qparams = {}
        self.statistics = copy.deepcopy(statistics)
        self._seen[0] += 1

    def apart(self) -> RangeObserver:
        """One that observes for the same qspec and has seen nothing; see ``add``."""
        return RangeObserver(spec=self.spec, once=self.once)

    def add(self, other: RangeObserver) -> None:
        """Have seen what the other saw too."""
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

        A channel whose weights are next to nothing has a tiny scale, in units of which its bias leaves int32;
        saturated, it would be another bias. Weights that small are nothing beside it.
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
        # torchao calls convert() of observers that have one; only two layouts need their own
        if name == "convert":
            layouts = {Granularity.PER_GROUP: self._to_groups, Granularity.PER_TOKEN: self._to_tokens}
            if self.spec.granularity in layouts:
                return layouts[self.spec.granularity]
        return super().__getattr__(name)

    def _to_groups(self, model: fx.GraphModule, node: fx.Node) -> None:
        """Integer weights, scales and zero points as buffers, and a dequantize of them for each user."""
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
            held = [
                create_getattr_from_value(model, graph, name, value)
                for name, value in (
                    ("_weight_int4_", integers),
                    ("_scale_", scale),
                    ("_zero_point_", zero_point.to(torch.int32)),
                )
            ]
            for user in list(node.users):
                made = graph.call_function(
                    _ops.dequantize_per_channel_group.default, (*held, *limits, torch.float32)
                )
                user.replace_input_with(node, made)
        graph.erase_node(node)

    def _to_tokens(self, model: fx.GraphModule, node: fx.Node) -> None:
        """A chain of choose, quantize and dequantize for each user: a kernel absorbs its own chain."""
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
                made = graph.call_function(
                    _ops.dequantize_per_token.default, (quantized, *parameters, *limits, torch.float32)
                )
            user.replace_input_with(node, made)
        graph.erase_node(node)
