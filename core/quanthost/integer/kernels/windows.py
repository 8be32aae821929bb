"""Integer operators over windows and dimensions: means, average pools and maximum pools."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from quanthost.arith.bounds import exact_dtype
from quanthost.integer.kernels.forms import Form, IntegerOperator, Output, centre

__all__ = ["AveragePool", "MaxPool", "Mean", "WindowAverage"]


class Mean(IntegerOperator):
    """``mean`` over dimensions: the sum of the centred integers, with 1 / count in the scale."""

    def __init__(self, output: Output, *, zero_point: int, dims: Sequence[int], keepdim: bool) -> None:
        super().__init__()
        self.output, self.zero_point = output, zero_point
        self.dims, self.keepdim = list(dims), keepdim

    def forward(self, x: Tensor) -> Tensor:
        bound = self.output.bound
        if self.form is Form.EAGER:
            total = centre(x, self.zero_point, exact_dtype(bound)).sum(self.dims, self.keepdim)
        else:
            total = centre(x, self.zero_point, torch.int32).sum(self.dims, self.keepdim, dtype=torch.int64)
        return self.output(total)

    def extra_repr(self) -> str:
        return f"dims={self.dims}, keepdim={self.keepdim}, zero_point={self.zero_point}"


class AveragePool(IntegerOperator):
    """Averages over two-dimensional windows that all count the same number of elements."""

    def __init__(
        self,
        output: Output,
        *,
        zero_point: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> None:
        super().__init__()
        self.output, self.zero_point = output, zero_point
        self.kernel, self.stride, self.padding = list(kernel), list(stride), list(padding)

    def forward(self, x: Tensor) -> Tensor:
        bound = self.output.bound
        if self.form is Form.EAGER:
            centred = centre(x, self.zero_point, exact_dtype(bound))
            total = F.avg_pool2d(centred, self.kernel, self.stride, self.padding, divisor_override=1)
        else:
            # the runtime's kernels average floats only; a convolution with ones sums integers
            centred = centre(x, self.zero_point, torch.int32)
            height, width = centred.shape[-2:]
            planes = centred.reshape(-1, 1, height, width)
            ones = torch.ones((1, 1, *self.kernel), dtype=torch.int32)
            total = torch.convolution(planes, ones, None, self.stride, self.padding, [1, 1], False, [0, 0], 1)
            total = total.reshape(*centred.shape[:-2], *total.shape[-2:])
        return self.output(total)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"


class WindowAverage(IntegerOperator):
    """Averages over windows that may count different numbers of elements.

    ``columns`` ``[W', W]`` has a 1 for each element of the last dimension that a window reads, ``rows``
    ``[H', H]`` the same for the dimension before it. Without ``rows``, windows are one-dimensional.
    """

    rows: Tensor | None
    columns: Tensor

    def __init__(self, output: Output, rows: Tensor | None, columns: Tensor, *, zero_point: int) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        self.output, self.zero_point = output, zero_point

    def forward(self, x: Tensor) -> Tensor:
        dtype = exact_dtype(self.output.bound) if self.form is Form.EAGER else torch.int32
        total = torch.matmul(centre(x, self.zero_point, dtype), self.columns.to(dtype).t())
        if self.rows is not None:
            total = torch.matmul(self.rows.to(dtype), total)
        return self.output(total)

    def extra_repr(self) -> str:
        matrices = [m for m in (self.rows, self.columns) if m is not None]
        return (
            f"{' × '.join(f'{m.shape[1]} to {m.shape[0]}' for m in matrices)}, zero_point={self.zero_point}"
        )


class MaxPool(IntegerOperator):
    """Maxima over windows of one or two dimensions."""

    def __init__(
        self,
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        ceil: bool,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = list(kernel), list(stride), list(padding)
        self.dilation, self.ceil = list(dilation), ceil

    def forward(self, x: Tensor) -> Tensor:
        line = len(self.kernel) == 1
        image = x.unsqueeze(-2) if line else x
        pooled = F.max_pool2d(
            image.to(torch.float32) if self.form is Form.EAGER else image,
            *([1, *self.kernel], [1, *self.stride], [0, *self.padding], [1, *self.dilation]) if line
            else (self.kernel, self.stride, self.padding, self.dilation),
            ceil_mode=self.ceil,
        ).to(x.dtype)  # fmt: skip
        return pooled.squeeze(-2) if line else pooled

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"
