"""Decompositions of convolution and pooling that the runtime has in two dimensions only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["DECOMPOSITIONS"]


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> Tensor:  # fmt: skip
    """A convolution over volumes as convolutions over their slices.

    The slices under the taps of the kernel become channels of one convolution in two dimensions.
    """
    if weight.dim() != 5:
        return NotImplemented
    stride, padding, dilation = _three(stride), _three(padding), _three(dilation)
    batch = x if x.dim() == 5 else x.unsqueeze(0)
    if transposed:
        result = _transposed(batch, weight, stride, padding, dilation, _three(output_padding), groups)
    else:
        result = _forward(batch, weight, stride, padding, dilation, groups)
    if bias is not None:
        result = result + bias.reshape(1, -1, 1, 1, 1)
    return result if x.dim() == 5 else result.squeeze(0)


def _forward(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    groups: int,
) -> Tensor:  # fmt: skip
    taps = weight.shape[2]
    padded = functional.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
    depth = (padded.shape[2] - dilation[0] * (taps - 1) - 1) // stride[0] + 1
    reach = stride[0] * (depth - 1) + 1
    under = [padded[:, :, dilation[0] * t : dilation[0] * t + reach : stride[0]] for t in range(taps)]
    # (batch, depth, channels, taps, height, width): a group has all taps of its channels
    stacked = torch.stack(under, 2).permute(0, 3, 1, 2, 4, 5)
    slices = stacked.reshape(x.shape[0] * depth, x.shape[1] * taps, *x.shape[3:])
    kernel = weight.reshape(weight.shape[0], weight.shape[1] * taps, *weight.shape[3:])
    flat = functional.conv2d(slices, kernel, None, stride[1:], padding[1:], dilation[1:], groups)
    return _volumes(flat, depth)


def _transposed(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    output_padding: Sequence[int], groups: int,
) -> Tensor:  # fmt: skip
    depth, taps = x.shape[2], weight.shape[2]
    slices = _slices(x)
    full = (depth - 1) * stride[0] + dilation[0] * (taps - 1) + 1 + output_padding[0]
    total: Tensor | None = None
    for tap in range(taps):
        flat = functional.conv_transpose2d(
            slices, weight[:, :, tap], None, stride[1:], padding[1:], output_padding[1:], groups, dilation[1:]
        )
        spread = _spread(_volumes(flat, depth), stride[0])
        before = dilation[0] * tap
        placed = functional.pad(spread, (0, 0, 0, 0, before, full - before - spread.shape[2]))
        total = placed if total is None else total + placed
    assert total is not None
    return total[:, :, padding[0] : full - padding[0]]


def _spread(x: Tensor, stride: int) -> Tensor:
    """Slices in depth with ``stride - 1`` slices of zeros between them."""
    if stride == 1:
        return x
    gaps = functional.pad(x.unsqueeze(3), (0, 0, 0, 0, 0, stride - 1))
    flat = gaps.reshape(*x.shape[:2], x.shape[2] * stride, *x.shape[3:])
    return flat[:, :, : (x.shape[2] - 1) * stride + 1]


def _slices(x: Tensor) -> Tensor:
    """(N, C, D, H, W) to (N · D, C, H, W)."""
    return x.permute(0, 2, 1, 3, 4).reshape(x.shape[0] * x.shape[2], x.shape[1], *x.shape[3:])


def _volumes(x: Tensor, depth: int) -> Tensor:
    """(N · D, C, H, W) to (N, C, D, H, W)."""
    return x.reshape(x.shape[0] // depth, depth, *x.shape[1:]).permute(0, 2, 1, 3, 4)


def _three(values: Sequence[int] | int, default: Sequence[int] | None = None) -> list[int]:
    if isinstance(values, int):
        return [values] * 3
    if not values and default is not None:
        return list(default)
    return list(values) * (3 // len(values))


def _conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    return _convolution(x, weight, bias, stride, padding, dilation, False, [0], groups)


def _conv3d_padding(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: str = "valid",
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    pads: list[int] = []
    for size, step in zip(reversed(weight.shape[2:]), reversed(_three(dilation))):
        total = step * (size - 1) if padding == "same" else 0
        pads += [total // 2, total - total // 2]
    return _convolution(functional.pad(x, pads), weight, bias, stride, [0], dilation, False, [0], groups)


def _conv_transpose3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    return _convolution(x, weight, bias, stride, padding, dilation, True, output_padding, groups)


def _avg_pool3d(
    x: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Sums over height and width, then over depth, divided by the number of elements in each window."""
    if not x.numel() or not x.dtype.is_floating_point:
        return NotImplemented
    kernel, padding = _three(kernel_size), _three(padding)
    stride = _three(stride, kernel)
    batch = x if x.dim() == 5 else x.unsqueeze(0)
    inside = torch.ones_like(batch[:1, :1])
    counted = functional.pad(inside, _pads(padding), value=1.0 if count_include_pad else 0.0)
    sums = _sum_windows(functional.pad(batch, _pads(padding)), kernel, stride, padding, ceil_mode)
    if divisor_override is not None:
        result = sums / divisor_override
    else:
        result = sums / _sum_windows(counted, kernel, stride, padding, ceil_mode)
    return result if x.dim() == 5 else result.squeeze(0)


def _sum_windows(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], ceil_mode: bool
) -> Tensor:
    """The sums over windows of padded volumes."""
    sizes = [
        _windows(padded, size, step, pad, ceil_mode)
        for padded, size, step, pad in zip(x.shape[2:], kernel, stride, padding)
    ]
    # zeros behind the end, for windows that go beyond it
    beyond = [max(0, (n - 1) * s + k - p) for n, s, k, p in zip(sizes, stride, kernel, x.shape[2:])]
    x = functional.pad(x, (0, beyond[2], 0, beyond[1], 0, beyond[0]))
    flat = functional.avg_pool2d(_slices(x), list(kernel[1:]), list(stride[1:]), divisor_override=1)
    volumes = _volumes(flat[:, :, : sizes[1], : sizes[2]], x.shape[2])
    columns = volumes.reshape(*volumes.shape[:3], -1)
    summed = functional.avg_pool2d(columns, [kernel[0], 1], [stride[0], 1], divisor_override=1)
    return summed[:, :, : sizes[0]].reshape(*volumes.shape[:2], *sizes)


def _windows(padded: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """The number of windows over a padded dimension; the last one must begin in the input or before it."""
    if not ceil_mode:
        return (padded - kernel) // stride + 1
    count = math.ceil((padded - kernel) / stride) + 1
    return count - 1 if (count - 1) * stride >= padded - padding else count


def _pads(padding: Sequence[int]) -> list[int]:
    return [size for each in reversed(padding) for size in (each, each)]


def _max_pool3d_with_indices(
    x: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor] | Any:  # fmt: skip
    """The largest of each slice, then of the slices of each window, with indices into the volume."""
    if not x.dtype.is_floating_point:
        return NotImplemented
    kernel, padding, dilation = _three(kernel_size), _three(padding), _three(dilation)
    stride = _three(stride, kernel)
    batch = x if x.dim() == 5 else x.unsqueeze(0)
    count, channels, depth, height, width = batch.shape
    values, within = functional.max_pool2d_with_indices(
        _slices(batch), kernel[1:], stride[1:], padding[1:], dilation[1:], ceil_mode
    )
    rows, columns = values.shape[2:]
    values, within = (
        _volumes(each, depth).reshape(count, channels, depth, rows * columns) for each in (values, within)
    )
    values, across = functional.max_pool2d_with_indices(
        values, [kernel[0], 1], [stride[0], 1], [padding[0], 0], [dilation[0], 1], ceil_mode
    )
    flat = within.reshape(count, channels, depth * rows * columns)
    inner = torch.gather(flat, 2, across.reshape(count, channels, -1)).reshape(across.shape)
    place = torch.div(across, rows * columns, rounding_mode="floor") * (height * width) + inner
    shape = (count, channels, values.shape[2], rows, columns)
    values, place = values.reshape(shape), place.reshape(shape)
    return (values, place) if x.dim() == 5 else (values.squeeze(0), place.squeeze(0))


def _max_pool3d(
    x: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    pooled = _max_pool3d_with_indices(x, kernel_size, stride, padding, dilation, ceil_mode)
    return NotImplemented if pooled is NotImplemented else pooled[0]


def _adaptive_max_pool2d(x: Tensor, output_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest of each row's windows, then of the columns' windows, with indices into the picture."""
    return _adaptive_max(x, output_size)


def _adaptive_max_pool3d(x: Tensor, output_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    return _adaptive_max(x, output_size)


def _adaptive_max(x: Tensor, output_size: Sequence[int]) -> tuple[Tensor, Tensor] | Any:
    if not all(output_size) or not x.numel():
        return NotImplemented
    first = x.dim() - len(output_size)
    values, places = x, None
    scale = 1
    for offset in reversed(range(len(output_size))):
        dim = first + offset
        maxima, indices = zip(
            *(values.narrow(dim, b, e - b).max(dim) for b, e in _bins(values.shape[dim], output_size[offset]))
        )
        begins = [b for b, _ in _bins(values.shape[dim], output_size[offset])]
        chosen = torch.stack([index + begin for index, begin in zip(indices, begins)], dim)
        here = chosen * scale
        places = here if places is None else torch.gather(places, dim, chosen) + here
        scale *= values.shape[dim]
        values = torch.stack(list(maxima), dim)
    assert places is not None
    return values, places


def _adaptive_avg_pool3d(x: Tensor, output_size: Sequence[int]) -> Tensor:
    if not all(output_size):
        return NotImplemented
    dim = x.dim() - 3
    parts = [x.narrow(dim, b, e - b).mean(dim) for b, e in _bins(x.shape[dim], output_size[0])]
    # (…, depth, H, W): pooling over pictures takes any number of channels in front
    stacked = torch.stack(parts, dim)
    pictures = stacked.reshape(-1, 1, *stacked.shape[-2:])
    pooled = functional.adaptive_avg_pool2d(pictures, list(output_size[1:]))
    return pooled.reshape(*stacked.shape[:-2], *output_size[1:])


def _bins(size: int, count: int) -> list[tuple[int, int]]:
    """Begin and end of each window of adaptive pooling (aten/src/ATen/native/AdaptivePooling.h)."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _constant_pad_nd(x: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """Negative padding takes elements away."""
    if all(each >= 0 for each in pad):
        return NotImplemented
    for number in range(len(pad) // 2):
        dim = x.dim() - 1 - number
        before, after = (min(each, 0) for each in pad[2 * number : 2 * number + 2])
        x = x.narrow(dim, -before, x.shape[dim] + before + after)
    rest = [max(each, 0) for each in pad]
    return torch.constant_pad_nd(x, rest, value) if any(rest) else x.clone()


DECOMPOSITIONS: dict[str, Callable[..., Any]] = {
    "aten._adaptive_avg_pool3d.default": _adaptive_avg_pool3d,
    "aten.adaptive_avg_pool3d.default": _adaptive_avg_pool3d,
    "aten.adaptive_max_pool2d.default": _adaptive_max_pool2d,
    "aten.adaptive_max_pool3d.default": _adaptive_max_pool3d, "aten.avg_pool3d.default": _avg_pool3d,
    "aten.constant_pad_nd.default": _constant_pad_nd, "aten.conv3d.default": _conv3d,
    "aten.conv3d.padding": _conv3d_padding, "aten.conv_transpose3d.input": _conv_transpose3d,
    "aten.convolution.default": _convolution, "aten.max_pool3d.default": _max_pool3d,
    "aten.max_pool3d_with_indices.default": _max_pool3d_with_indices,
}  # fmt: skip
"""By the name of the operator; a decomposition returns ``NotImplemented`` for calls that it does not take."""
