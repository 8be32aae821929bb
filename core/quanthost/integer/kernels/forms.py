"""The base of all integer operators: the form in which they compute, and the rescaling of their results."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable

import torch
from torch import Tensor, nn

from quanthost.arith.rescale import IntegerRescale, Multipliers, rescale
from quanthost.integer.numbers import Numbers

__all__ = ["Form", "IntegerOperator", "Output", "centre", "integer_dtype", "set_form"]


class Form(enum.Enum):
    """Which arithmetic an operator uses; the numbers are the same in each.

    ``EAGER`` is the fastest arithmetic that a bound proves exact. ``PORTABLE`` has integer tensors only;
    programs are made of it. ``REFERENCE`` is ``PORTABLE`` with the rescaling in float32, as in PT2E's
    reference representation.
    """

    EAGER = "eager"
    PORTABLE = "portable"
    REFERENCE = "reference"


class IntegerOperator(nn.Module):  # type: ignore[misc]
    """An operator on integer tensors; ``form`` changes how it computes, not what."""

    form = Form.EAGER
    __call__: Callable[..., Tensor]


def set_form(module: nn.Module, form: Form) -> None:
    """Switch every integer operator of a module to a form.

    Other modules may share the submodules, so they are replaced by copies with the same tensors.
    """
    if isinstance(module, IntegerOperator):
        module.form = form
    for name, child in module._modules.items():
        if child is not None:
            clone = copy.copy(child)
            clone._modules = dict(child._modules)
            module._modules[name] = clone
            set_form(clone, form)


class Output(IntegerOperator):
    """Turns an accumulator into the integers of the result: rescales, adds the zero point, clamps.

    ``offset`` is added before rounding and subtracted after it, so that it decides ties. The multipliers
    broadcast over the accumulator. Its largest magnitude is ``bound``, or ``products`` without the bias.
    """

    def __init__(
        self,
        multipliers: Multipliers,
        numbers: Numbers,
        *,
        bound: int,
        products: int | None = None,
        offset: int = 0,
    ) -> None:
        super().__init__()
        self.multipliers, self.numbers, self.bound = multipliers, numbers, bound
        self.products = bound if products is None else products
        self.offset = offset
        self.exact = IntegerRescale.make(
            self.multipliers, bound=bound, offset=offset,
            low=numbers.low - numbers.zero_point, high=numbers.high - numbers.zero_point,
        )  # fmt: skip

    def forward(self, accumulator: Tensor) -> Tensor:
        n = self.numbers
        if self.form is Form.PORTABLE:
            return (self.exact(accumulator.to(torch.int64)) + n.zero_point).to(n.dtype)
        if self.form is Form.REFERENCE:
            values = torch.round(accumulator.to(torch.float32) * self.multipliers.scale + self.offset)
            return (values - self.offset + n.zero_point).clamp(n.low, n.high).to(n.dtype)
        values = rescale(accumulator, self.multipliers, offset=self.offset)
        return values.add_(n.zero_point).clamp_(n.low, n.high).to(n.dtype)

    def extra_repr(self) -> str:
        n = self.numbers
        return (
            f"{self.multipliers.profile.name}, scale={n.scale:.6g}, zero_point={n.zero_point}, "
            f"{n.low}..{n.high} {str(n.dtype).removeprefix('torch.')}, |accumulator| <= {self.bound}"
        )


def centre(x: Tensor, zero_point: int, dtype: torch.dtype) -> Tensor:
    """``x - zero_point`` in ``dtype``."""
    converted = x.to(dtype)
    return converted if zero_point == 0 else converted - zero_point


def integer_dtype(bound: int) -> torch.dtype:
    """int32 if it holds numbers up to ``bound``, else int64."""
    return torch.int32 if bound < 2**31 else torch.int64
