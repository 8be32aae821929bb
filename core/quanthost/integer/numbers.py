"""How integers represent real numbers: affine parameters, accumulator scales, biases, function tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from quanthost.values import ArithmeticProfile, Rescaling

__all__ = ["Numbers", "effective_scales", "function_table", "leaky_relu_table", "quantize_bias"]


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


def function_table(
    function: Callable[[Tensor], Tensor], numbers: Numbers, out: Numbers, profile: ArithmeticProfile
) -> Tensor:
    """The result of a function of real numbers for each level, in integers of ``out``.

    For targets that compute in float32, as in XNNPACK's src/reference/unary-elementwise.cc: dequantize,
    apply the function, multiply by the reciprocal of the scale, add the zero point, round ties to even.
    For others, the integer nearest to the real result.
    """
    if profile.rescaling is not Rescaling.FP32_HALF_EVEN:
        return out.nearest(function(numbers.real(numbers.levels)).double()).to(out.dtype)
    scale, inverse = torch.tensor(numbers.scale), 1.0 / torch.tensor(out.scale)
    results = function((numbers.levels - numbers.zero_point).float() * scale) * inverse + out.zero_point
    levels = torch.round(results.nan_to_num(nan=out.zero_point, posinf=out.high, neginf=out.low))
    return levels.clamp(out.low, out.high).to(out.dtype)


def leaky_relu_table(numbers: Numbers, out: Numbers, slope: float, places: int) -> Tensor:
    """The results of leaky ReLU for each level, with slopes in fixed point.

    XNNPACK, src/qs8-vlrelu/scalar-select.c.in: ``(q - zero_point) × m + 2^(places - 1) >> places``, where
    ``m`` is the slope times the ratio of the scales times ``2^places``, in float32, ties to even.
    """
    ratio = torch.tensor(numbers.scale, dtype=torch.float32) / torch.tensor(out.scale, dtype=torch.float32)
    slopes = torch.stack([ratio, ratio * torch.tensor(slope, dtype=torch.float32)])
    above, below = torch.round(slopes * 2**places).to(torch.int64)
    centred = numbers.levels - numbers.zero_point
    values = (torch.where(centred >= 0, centred * above, centred * below) + 2 ** (places - 1)) >> places
    return (values + out.zero_point).clamp(out.low, out.high).to(out.dtype)
