"""Faults of kernels: they compute other numbers than the graph."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from chip_backends import INFO, RECIPE, WEIGHT, delegating
from chip_simulator import Machine, Parameters, Step
from seeded import SeededFault
from torch import Tensor
from torch.nn import functional as F

from quanthost.api import GEMMLOWP, BackendInfo, Symmetry
from quanthost.testing import Area

__all__ = ["FAULTS"]


class Truncates(Machine):
    def rounded(self, numbers: Tensor) -> Tensor:
        return numbers.trunc()


class TiesAway(Machine):
    def rounded(self, numbers: Tensor) -> Tensor:
        return numbers.sign() * (numbers.abs() + 0.5).floor()


class Wraps(Machine):
    """Keeps the low bits instead of the nearest number of the range."""

    def quantize(self, numbers: Tensor, parameters: Parameters) -> Tensor:
        return (self.rounded(numbers / parameters.scale) + parameters.zero_point + 128) % 256 - 128


class PadsWithIntegerZero(Machine):
    """Pads with the integer 0, which is another number than zero."""

    def convolution(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        parameters, (above, beside) = self.read(step), args[4]
        number = (0 - parameters.zero_point) * parameters.scale
        padded = F.pad(args[0], [beside, beside, above, above], value=number)
        return self.torch(step, (padded, *args[1:4], [0, 0], *args[5:]))


class NoBias(Machine):
    def linear(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        return self.torch(step, args[:2])


class FirstScale(Machine):
    def spread(self, parameters: Parameters, like: Tensor) -> tuple[Any, Any]:
        scale, zero_point = super().spread(parameters, like)
        return (scale, zero_point) if parameters.axis is None else (scale.flatten()[0], zero_point)


class ClampsAtIntegerZero(Machine):
    """A ReLU that is fused into a convolution clamps integers at 0, not at the zero point."""

    def relu(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        parameters = next(
            self._parameters(each, self.resolve(each.args)) for each in self.piece["steps"]
            if each.base.startswith("quantize") and each.args[0].name == step.name
        )  # fmt: skip
        return args[0].clamp(min=(0 - parameters.zero_point) * parameters.scale)


class NarrowDifference(Machine):
    """Subtracts the zero point in int8, which wraps if the zero point lies at an end."""

    def dequantize(self, integers: Tensor, parameters: Parameters) -> Tensor:
        if parameters.axis is not None or integers.dtype is not torch.int8:
            return super().dequantize(integers, parameters)
        return (integers - torch.tensor(parameters.zero_point, dtype=torch.int8)).double() * parameters.scale


class CoarseScales(Machine):
    """Stores scales with sixteen binary places, which changes tiny ones."""

    def dequantize(self, integers: Tensor, parameters: Parameters) -> Tensor:
        if parameters.axis is not None:
            return super().dequantize(integers, parameters)
        scale = max(round(parameters.scale * 2**16), 1) / 2**16
        return super().dequantize(integers, attrs.evolve(parameters, scale=scale))


class Clamps(Machine):
    """Stores numbers in a format that ends at 2048."""

    def dequantize(self, integers: Tensor, parameters: Parameters) -> Tensor:
        return super().dequantize(integers, parameters).clamp(-2048.0, 2048.0)


class SumsInSixteenBits(Machine):
    def convolution(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        weights = self.read(step, 1)
        scale = self.read(step).scale * weights.scale.double().reshape(1, -1, 1, 1)
        sums = self.torch(step, args) / scale
        return ((sums.round() + 2**15) % 2**16 - 2**15) * scale


class IgnoresWeightZeroPoint(Machine):
    def spread(self, parameters: Parameters, like: Tensor) -> tuple[Any, Any]:
        scale, zero_point = super().spread(parameters, like)
        return scale, zero_point if parameters.axis is None else 0.0


class SwapsOperands(Machine):
    """Uses the first operand's scale for both."""

    def add(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        first, second = self.read(step), self.read(step, 1)
        return args[0] + args[1] / second.scale * first.scale


class CountsBorder(Machine):
    """Divides each average by the whole window plus one."""

    def avg_pool2d(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        average = self.torch(step, args)
        window = args[1][0] * args[1][-1]
        return average * window / (window + 1)


def _faulty(
    name: str, fault: str, machine: type[Machine], case: str, info: BackendInfo = INFO
) -> SeededFault:
    backend = delegating(machine=machine, info=info)
    return SeededFault(
        name=name, fault=fault, area=Area.NUMBERS, only=(f"numbers/{case}/*",), make=lambda _: backend
    )


_AFFINE = attrs.evolve(
    INFO,
    recipes=(
        attrs.evolve(RECIPE, weight=attrs.evolve(WEIGHT, symmetry=Symmetry.AFFINE, quant_min=-128)),
    ),
)  # fmt: skip
_OTHER_PROFILE = attrs.evolve(INFO, arithmetic=GEMMLOWP)

FAULTS = (
    _faulty("truncates", "Results are truncated, not rounded.", Truncates, "golden/conv2d"),
    _faulty("ties_away",
            "Ties are rounded away from zero, though the declared arithmetic rounds them to even.",
            TiesAway, "golden/avg_pool2d"),
    _faulty("other_arithmetic", "The declared arithmetic is not that of the kernels.",
            Machine, "golden/avg_pool2d", info=_OTHER_PROFILE),
    _faulty("wraps", "Results beyond the range wrap around instead of saturating.", Wraps, "qdq/conv2d"),
    _faulty("pads_with_integer_zero", "The zero point is ignored in the padding of a convolution.",
            PadsWithIntegerZero, "qdq/conv2d"),
    _faulty("no_bias", "The bias is left out.", NoBias, "qdq/linear"),
    _faulty("first_scale", "The first channel's scale is used for all channels.", FirstScale, "qdq/conv2d"),
    _faulty("clamps_at_integer_zero", "A fused ReLU clamps at the integer 0, not at the zero point.",
            ClampsAtIntegerZero, "qdq/conv2d_relu"),
    _faulty("narrow_difference", "The zero point is subtracted in 8 bits.", NarrowDifference, "positive/add"),
    _faulty("coarse_scales", "Scales are rounded to 16 places: tiny ones are wrong.", CoarseScales,
            "tiny/add"),
    _faulty("clamped_numbers", "Numbers are clamped to 2048: huge scales are wrong.", Clamps,
            "huge/add"),
    _faulty("sums_in_16_bits", "Sums of products are kept in 16 bits.", SumsInSixteenBits, "qdq/conv2d"),
    _faulty("ignores_weight_zero_point", "Weights are declared with zero points that the kernel ignores.",
            IgnoresWeightZeroPoint, "qdq/linear", info=_AFFINE),
    _faulty("one_scale_for_both", "Both operands of a sum are read with the first one's scale.",
            SwapsOperands, "qdq/add"),
    _faulty("wrong_divisor", "An average is divided by one too many.", CountsBorder, "qdq/avg_pool2d"),
)  # fmt: skip
