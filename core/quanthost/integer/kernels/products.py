"""Integer operators that sum or take products: convolution, linear, matrix product, multiplication."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from quanthost.arith.bounds import exact_dtype
from quanthost.integer.kernels.forms import Form, IntegerOperator, Output, centre, integer_dtype

__all__ = ["Convolution", "Linear", "MatMul", "Multiply"]


def _split_bias(
    operator: Convolution | Linear, bias: Tensor | None
) -> tuple[torch.dtype, Tensor | None, Tensor | None]:
    """The dtype that sums the products, the bias to start from in it, and the bias to add afterwards.

    A bias may need more bits than the products: without it, float32 sums most layers exactly.
    """
    output = operator.output
    wide = integer_dtype(output.bound)
    if operator.form is not Form.EAGER:
        return wide, None, None if bias is None else bias.to(wide)
    dtype = exact_dtype(output.products)
    if bias is None or exact_dtype(output.bound) is dtype:
        return dtype, None if bias is None else bias.to(dtype), None
    return dtype, None, bias.to(wide)


class Convolution(IntegerOperator):
    """``convolution`` of integers in one, two or three dimensions; may be grouped, dilated, transposed.

    ``weight`` is int8 in the float operator's layout, ``bias`` int32 or int64 ``[C]`` or ``None``.
    ``pad`` is padding that differs between the sides, in the order of ``torch.nn.functional.pad``.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        output: Output,
        *,
        zero_point: int,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool = False,
        output_padding: Sequence[int],
        groups: int = 1,
        pad: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.output, self.zero_point, self.pad, self.groups = output, zero_point, list(pad), groups
        self.stride, self.padding, self.dilation = list(stride), list(padding), list(dilation)
        self.transposed, self.output_padding = transposed, list(output_padding)

    def forward(self, x: Tensor) -> Tensor:
        dtype, bias, late_bias = _split_bias(self, self.bias)
        centred = centre(x, self.zero_point, dtype)
        if self.pad:
            centred = F.pad(centred, self.pad)
        batched = centred.dim() == self.weight.dim()
        accumulator = torch.convolution(
            centred if batched else centred.unsqueeze(0), self.weight.to(dtype), bias, self.stride,
            self.padding, self.dilation, self.transposed, self.output_padding, self.groups,
        )  # fmt: skip
        if late_bias is not None:
            shape = [-1] + [1] * (self.weight.dim() - 2)
            accumulator = accumulator.to(late_bias.dtype) + late_bias.reshape(shape)
        return self.output(accumulator if batched else accumulator.squeeze(0))

    def extra_repr(self) -> str:
        kind = "transposed " if self.transposed else ""
        return (
            f"{kind}int8{list(self.weight.shape)}, zero_point={self.zero_point}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        )


class Linear(IntegerOperator):
    """``linear`` of integers: ``x [..., K]``, ``weight [N, K]``, ``bias [N]`` or ``None``."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, output: Output, *, zero_point: int) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.output, self.zero_point = output, zero_point

    def forward(self, x: Tensor) -> Tensor:
        dtype, bias, late_bias = _split_bias(self, self.bias)
        centred = centre(x, self.zero_point, dtype)
        if self.form is Form.EAGER:
            accumulator = F.linear(centred, self.weight.to(dtype), bias)
        else:
            rows = torch.mm(centred.reshape(-1, self.weight.shape[1]), self.weight.to(dtype).t())
            accumulator = rows.reshape(*x.shape[:-1], self.weight.shape[0])
        if late_bias is not None:
            accumulator = accumulator.to(late_bias.dtype) + late_bias
        return self.output(accumulator)

    def extra_repr(self) -> str:
        return f"int8{list(self.weight.shape)}, zero_point={self.zero_point}"


class _Product(IntegerOperator):
    """A product of two computed tensors, each with its zero point subtracted."""

    product: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, output: Output, *, zero_points: tuple[int, int]) -> None:
        super().__init__()
        self.output, self.zero_points = output, zero_points

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        bound = self.output.bound
        dtype = exact_dtype(bound) if self.form is Form.EAGER else integer_dtype(bound)
        centred = (centre(x, zero_point, dtype) for x, zero_point in zip((a, b), self.zero_points))
        return self.output(self.product(*centred))

    def extra_repr(self) -> str:
        return f"zero_points={self.zero_points}"


class MatMul(_Product):
    """``matmul`` of two computed tensors."""

    product = staticmethod(torch.matmul)


class Multiply(_Product):
    """``mul`` of two tensors."""

    product = staticmethod(torch.mul)
