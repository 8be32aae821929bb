"""What an observed graph would compute once converted, without converting it: its observers round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from quanthost.graph.view import constant
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import Granularity

__all__ = ["Simulation"]

_Rounding = Callable[[Tensor], Tensor]
_ops = torch.ops.quantized_decomposed
# integers up to here are exact in float32
_EXACT = 1 << 24


class Simulation:
    """Stands in for the observers of a graph in ``walk``: each rounds its tensor to its integers and back.

    The results are those of quantize and dequantize, bit for bit where the integers have at most 24 bits.
    What observers of constants make is kept, so that several walks round a weight once.
    """

    def __init__(self, observed: fx.GraphModule) -> None:
        self._observed = observed
        self._roundings: dict[str, tuple[object, _Rounding]] = {}
        self._constants: dict[str, tuple[object, Tensor]] = {}

    def __call__(self, node: fx.Node, args: tuple[Any, ...]) -> Any:
        """The result of the observer that ``node`` calls."""
        target = str(node.target)
        key, rounding = self._roundings.get(target) or self._prepare(target)
        if constant(self._observed, node.args[0]) is None:
            return rounding(args[0])
        held = self._constants.get(node.name)
        if held is None or held[0] != key:
            held = self._constants[node.name] = (key, rounding(args[0]))
        return held[1]

    def renew(self) -> None:
        """Ask the observers again for their scales; constants whose scales stayed are not rounded again."""
        self._roundings.clear()

    def _prepare(self, target: str) -> tuple[object, _Rounding]:
        made = _rounding(self._observed.get_submodule(target))
        self._roundings[target] = made
        return made


def _rounding(observer: Any) -> tuple[object, _Rounding]:
    """How an observer rounds, and what two that round alike have in common."""
    if getattr(observer, "is_dynamic", False):
        return id(observer), lambda tensor: _rounded_by_itself(observer, tensor)
    scale, zero_point = observer.calculate_qparams()
    limits = (observer.quant_min, observer.quant_max)
    key = (tuple(scale.flatten().tolist()), tuple(zero_point.flatten().tolist()))
    own = isinstance(observer, RangeObserver)
    if own and observer.spec.granularity is Granularity.PER_GROUP:
        size = observer.spec.group_size
        columns = scale.reshape(-1, 1), zero_point.reshape(-1, 1)
        return key, lambda tensor: _round(tensor.reshape(-1, size), *columns, limits).reshape(tensor.shape)
    per_channel = observer.qscheme in (torch.per_channel_affine, torch.per_channel_symmetric)
    if not per_channel:
        return key, lambda tensor: _round(tensor, scale.reshape(()), zero_point.reshape(()), limits)
    axis = int(observer.ch_axis)

    def by_channel(tensor: Tensor) -> Tensor:
        shape = [-1 if number == axis else 1 for number in range(tensor.dim())]
        return _round(tensor, scale.reshape(shape), zero_point.reshape(shape), limits)

    return key, by_channel


def _round(tensor: Tensor, scale: Tensor, zero_point: Tensor, limits: tuple[int, int]) -> Tensor:
    """``scale × (clamp(round(x / scale) + zero point) - zero point)``, the clamp moved by the zero point."""
    wide = torch.float32 if max(map(abs, limits)) < _EXACT else torch.float64
    inverse = 1.0 / scale.to(torch.float32)
    lowest, highest = ((limit - zero_point).to(wide) for limit in limits)
    steps = (tensor.to(torch.float32) * inverse).to(wide).round_()
    if zero_point.dim() == 0:
        steps.clamp_(lowest.item(), highest.item())
    else:
        steps.clamp_(lowest, highest)
    return steps.to(torch.float32).mul_(scale.to(torch.float32)).to(tensor.dtype)


def _rounded_by_itself(observer: Any, tensor: Tensor) -> Tensor:
    """The tensor rounded to integers whose scale is chosen by its own range, whole or token by token."""
    if isinstance(observer, RangeObserver) and observer.spec.granularity is Granularity.PER_TOKEN:
        scale, zero_point = _ops.choose_qparams_per_token_asymmetric(tensor, observer.dtype)
    else:
        symmetric = observer.qscheme == torch.per_tensor_symmetric
        choose = _ops.choose_qparams_symmetric if symmetric else _ops.choose_qparams
        limits = (observer.quant_min, observer.quant_max, observer.eps, observer.dtype)
        scale, zero_point = (part.reshape(()) for part in choose.tensor(tensor, *limits))
    return _round(tensor, scale, zero_point, (observer.quant_min, observer.quant_max))
