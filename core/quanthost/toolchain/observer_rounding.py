"""Simulates the converted form of an observed graph: its observers round tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from quanthost.graph.view import constant
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import Granularity

__all__ = ["ObserverRounding"]

_Rounding = Callable[[Tensor], Tensor]
_ops = torch.ops.quantized_decomposed
# integers up to here are exact in float32
_EXACT = 1 << 24


class ObserverRounding:
    """Stands in for the observers of a graph in ``walk``: each rounds its tensor to its integers and back.

    The results are those of quantize and dequantize, bit for bit where the integers have at most 24 bits.
    Rounded constants are kept, so that several walks round a weight once, unless ``keeps_constants`` is
    false: they take as much memory as the weights.
    """

    def __init__(self, observed: fx.GraphModule, *, keeps_constants: bool = True) -> None:
        self._observed, self._keeps_constants = observed, keeps_constants
        self._roundings: dict[str, tuple[object, _Rounding]] = {}
        self._constants: dict[str, tuple[object, Tensor]] = {}

    def __call__(self, node: fx.Node, args: tuple[Any, ...]) -> Any:
        """The result of the observer that ``node`` calls."""
        target = str(node.target)
        key, rounding = self._roundings.get(target) or self._prepare(target)
        if not self._keeps_constants or constant(self._observed, node.args[0]) is None:
            return rounding(args[0])
        entry = self._constants.get(node.name)
        if entry is None or entry[0] != key:
            entry = self._constants[node.name] = (key, rounding(args[0]))
        return entry[1]

    def renew(self) -> None:
        """Read the observers' scales again; constants whose scales did not change are not rounded again."""
        self._roundings.clear()

    def _prepare(self, target: str) -> tuple[object, _Rounding]:
        entry = self._roundings[target] = _rounding_of(self._observed.get_submodule(target))
        return entry


def _rounding_of(observer: Any) -> tuple[object, _Rounding]:
    """A key that is equal for equal roundings, and the observer's rounding function."""
    if getattr(observer, "is_dynamic", False):
        return id(observer), lambda tensor: _round_dynamic(observer, tensor)
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


def _round_dynamic(observer: Any, tensor: Tensor) -> Tensor:
    """Round with scales from the tensor's own range, one for the tensor or one for each token."""
    if isinstance(observer, RangeObserver) and observer.spec.granularity is Granularity.PER_TOKEN:
        scale, zero_point = _ops.choose_qparams_per_token_asymmetric(tensor, observer.dtype)
    else:
        symmetric = observer.qscheme == torch.per_tensor_symmetric
        choose = _ops.choose_qparams_symmetric if symmetric else _ops.choose_qparams
        limits = (observer.quant_min, observer.quant_max, observer.eps, observer.dtype)
        scale, zero_point = (part.reshape(()) for part in choose.tensor(tensor, *limits))
    return _round(tensor, scale, zero_point, (observer.quant_min, observer.quant_max))
