"""How integers represent real numbers: affine parameters, accumulator scales, biases."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from quanthost.values import ArithmeticProfile, Rescaling

__all__ = ["Numbers", "effective_scales", "quantize_bias"]


@attrs.frozen(kw_only=True)
class Numbers:
    """Per-tensor affine integers: ``x = (q - zero_point) × scale``, ``q`` from ``low`` to ``high``."""

    scale: float
    zero_point: int
    low: int
    high: int
    dtype: torch.dtype

    @property
    def levels(self) -> Tensor:
        """Every integer from ``low`` to ``high``, int64."""
        return torch.arange(self.low, self.high + 1)

    @property
    def reach(self) -> int:
        """The largest magnitude of ``q - zero_point``."""
        return max(self.high - self.zero_point, self.zero_point - self.low)

    def real(self, numbers: Tensor) -> Tensor:
        """The real values of integers, float64."""
        return (numbers - self.zero_point).double() * self.scale

    def nearest(self, real: Tensor) -> Tensor:
        """The integers nearest to real numbers (float64), ties to even, saturated; int64.

        NaN becomes the zero point.
        """
        rounded = torch.round(real / self.scale).nan_to_num(nan=0.0) + self.zero_point
        return rounded.clamp(self.low, self.high).to(torch.int64)

    def clamped(self, low: float, high: float) -> Numbers:
        """The same scale and zero point, limited to the integers nearest to two real bounds."""
        ends = self.nearest(torch.tensor([low, high], dtype=torch.float64))
        return attrs.evolve(self, low=int(ends[0]), high=int(ends[1]))


def effective_scales(profile: ArithmeticProfile, factors: Sequence[Tensor | float], out: float) -> Tensor:
    """The product of ``factors`` over ``out``, one-dimensional.

    For targets that compute in float32, each step from left to right is rounded to float32 (XNNPACK's
    ``input_scale * filter_scale / output_scale``); for others all is float64, as in LiteRT's
    ``GetQuantizedConvolutionMultipler``.
    """
    dtype = torch.float32 if profile.rescaling is Rescaling.FP32_HALF_EVEN else torch.float64
    product = torch.as_tensor(factors[0], dtype=torch.float64).reshape(-1).to(dtype)
    for factor in factors[1:]:
        product = product * torch.as_tensor(factor, dtype=torch.float64).reshape(-1).to(dtype)
    return product / torch.tensor([out], dtype=torch.float64).to(dtype)


def quantize_bias(bias: Tensor, input_scale: float, weight_scale: Tensor | float) -> Tensor:
    """A float bias in units of the accumulator, int64; not saturated, so that the caller can refuse.

    As in ``quantized_decomposed.quantize_per_channel`` for ExecuTorch's delegates: times the reciprocal of
    ``weight_scale × input_scale`` in float32, ties to even. For a single scale the reciprocal is float64,
    as in ``quantize_per_tensor``.
    """
    if isinstance(weight_scale, Tensor):
        inverse: Tensor | float = 1.0 / (weight_scale.to(torch.float32) * input_scale)
    else:
        inverse = 1.0 / (weight_scale * input_scale)
    return torch.round(bias.to(torch.float32) * inverse).to(torch.float64).to(torch.int64)
