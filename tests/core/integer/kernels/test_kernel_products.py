"""Convolution, linear and products of two tensors against plain Python loops, in each form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from kernel_kit import OUT, draw, each_form, output, rounded
from torch import Tensor

from quanthost.arith.bounds import accumulator_bound
from quanthost.arith.rescale import Multipliers
from quanthost.integer.kernels.forms import Form, Output, set_form
from quanthost.integer.kernels.products import Convolution, Linear, MatMul, Multiply
from quanthost.values import SINGLE_ROUNDING


def slow_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, zero_point: int,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int,
) -> dict[tuple[int, ...], int]:  # fmt: skip
    """Accumulators by place, one output element at a time; padding has the zero point."""
    batch, _, *sizes = x.shape
    channels, per_group, *kernel = weight.shape
    sizes_out = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(sizes, padding, dilation, kernel, stride)
    ]
    pixels, weights = x.tolist(), weight.tolist()

    def at(tree: list, place: Sequence[int]) -> int:  # type: ignore[type-arg]
        for index in place:
            tree = tree[index]
        return tree  # type: ignore[return-value]

    found = {}
    for n, c, *place in itertools.product(range(batch), range(channels), *map(range, sizes_out)):
        first = c // (channels // groups) * per_group
        total = 0 if bias is None else int(bias[c])
        for i, *tap in itertools.product(range(per_group), *map(range, kernel)):
            source = [o * s - p + t * d for o, s, p, t, d in zip(place, stride, padding, tap, dilation)]
            if all(0 <= where < size for where, size in zip(source, sizes)):
                total += (at(pixels, [n, first + i, *source]) - zero_point) * at(weights, [c, i, *tap])
        found[n, c, *place] = total
    return found


CONVOLUTIONS = {
    "one dimension": ((2, 3, 9), (4, 3, 3), [2], [1], [1], 1),
    "two dimensions": ((1, 2, 5, 6), (3, 2, 3, 2), [1, 2], [1, 0], [1, 1], 1),
    "three dimensions": ((1, 2, 3, 4, 3), (2, 2, 2, 2, 2), [1, 1, 1], [0, 1, 0], [1, 1, 1], 1),
    "depthwise": ((1, 4, 5, 5), (8, 1, 3, 3), [1, 1], [1, 1], [1, 1], 4),
    "grouped and dilated": ((1, 4, 7, 8), (6, 2, 2, 3), [1, 1], [2, 1], [3, 2], 2),
    "one pixel": ((3, 1, 1, 1), (1, 1, 1, 1), [1, 1], [0, 0], [1, 1], 1),
}


def convolution(
    weight: Tensor, bias: Tensor | None, rank: int, zero_point: int = -5, **kwargs: object
) -> Convolution:
    scales = [2.0**-6, 2.0**-9] * (len(weight) // 2) + [2.0**-7] * (len(weight) % 2)
    bound = int(accumulator_bound(weight.flatten(1), -128, 127, zero_point, bias).max())
    given = {"stride": [1] * rank, "padding": [0] * rank, "dilation": [1] * rank} | kwargs
    operator = output(scales, bound, [-1, *[1] * rank])
    return Convolution(
        weight,
        bias,
        operator,
        zero_point=zero_point,
        output_padding=[0] * rank,
        **given,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolution(
    case: tuple[tuple[int, ...], tuple[int, ...], list[int], list[int], list[int], int], *, biased: bool
) -> None:
    """Padding counts as the zero point; each channel has a scale and a bias of its own."""
    shape, kernel, stride, padding, dilation, groups = case
    x, weight = draw(*shape), draw(*kernel, low=-127)
    bias = draw(kernel[0], low=-900, high=900, dtype=torch.int64) if biased else None
    operator = convolution(
        weight, bias, len(stride), stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    wanted = slow_convolution(x, weight, bias, -5, stride, padding, dilation, groups)
    scales = operator.output.multipliers.scale.reshape(-1).tolist()

    result = operator(x)

    assert result.numel() == len(wanted)
    assert all(
        int(result[place]) == rounded(total, scales[min(place[1], len(scales) - 1)])
        for place, total in wanted.items()
    )


def test_a_transposed_convolution_scatters() -> None:
    """Each input element adds its multiple of the kernel, at the stride's places."""
    x, weight = draw(1, 2, 3, 2), draw(2, 2, 2, 3, low=-127)
    sums = torch.zeros(1, 2, 6, 5, dtype=torch.int64)
    for i, c, h, w in itertools.product(range(2), range(2), range(3), range(2)):
        sums[0, c, 2 * h : 2 * h + 2, 2 * w : 2 * w + 3] += (int(x[0, i, h, w]) + 5) * weight[i, c].long()
    operator = Convolution(
        weight, None, output([2.0**-8], 2**20), zero_point=-5, stride=[2, 2], padding=[0, 0],
        dilation=[1, 1], transposed=True, output_padding=[0, 0],
    )  # fmt: skip

    assert operator(x).reshape(-1).tolist() == [rounded(n, 2.0**-8) for n in sums.reshape(-1).tolist()]


def test_a_convolution_of_one_image_of_any_layout() -> None:
    """Inputs without batch dimension, channels-last, strided or of batch 17 give the same results."""
    weight = draw(4, 3, 3, 3, low=-127)
    operator = convolution(weight, None, 2, padding=[1, 1])
    x = draw(17, 3, 8, 8)
    wanted = operator(x)

    assert torch.equal(operator(x[3]), wanted[3])
    assert torch.equal(operator(x.to(memory_format=torch.channels_last)), wanted)
    assert torch.equal(operator(x.repeat_interleave(2, 3)[..., ::2]), wanted)
    assert operator(x[:0]).shape == (0, 4, 8, 8)


def test_padding_that_differs_on_both_sides() -> None:
    """``padding="same"`` with an even kernel pads one more at the end."""
    weight, x = draw(1, 1, 1, 2, low=-127), draw(1, 1, 1, 5)
    operator = convolution(weight, None, 2, pad=[0, 1, 0, 0])
    wide = torch.cat([x, torch.full((1, 1, 1, 1), -5, dtype=torch.int8)], 3)

    assert torch.equal(operator(x), convolution(weight, None, 2)(wide))


@each_form
@pytest.mark.parametrize("biased", [False, True])
def test_linear(form: Form, *, biased: bool) -> None:
    """A bias may need more bits than the products, and the input may have no rows."""
    x, weight = draw(2, 3, 7), draw(4, 7, low=-127)
    bias = torch.tensor([2**25 + 1, -(2**25) - 3, 5, 0]) if biased else None
    scales = [2.0**-18, 2.0**-18, 2.0**-5, 2.0**-4]
    operator = Linear(weight, bias, Output(
        Multipliers.make(SINGLE_ROUNDING, torch.tensor(scales)).shaped([-1]), OUT, bound=2**27,
        products=2**18,
    ), zero_point=-5)  # fmt: skip
    set_form(operator, form)
    totals = [
        [sum((a + 5) * b for a, b in zip(row, column)) + (0 if bias is None else int(bias[i])) for i, column
         in enumerate(weight.tolist())]
        for row in x.reshape(-1, 7).tolist()
    ]  # fmt: skip
    wanted = [
        [max(-128, min(127, math.floor(total * scale + 0.5) + 3)) for total, scale in zip(row, scales)]
        for row in totals
    ]
    if form is not Form.REFERENCE:
        assert operator(x).reshape(-1, 4).tolist() == wanted
        assert operator(x[:0]).shape == (0, 3, 4)
    else:
        # float32 rescales ties to even, and bias and products together have more bits than it holds
        assert (operator(x).reshape(-1, 4).int() - torch.tensor(wanted)).abs().max() <= 1


@each_form
def test_products_of_two_tensors(form: Form) -> None:
    """Each operand has its own zero point, in batches and element by element."""
    a, b = draw(2, 3, 5), draw(2, 5, 4)
    operator = MatMul(output([2.0**-9], 5 * 133 * 135), zero_points=(-5, 7))
    by_element = Multiply(output([2.0**-7], 133 * 135), zero_points=(-5, 7))
    set_form(operator, form)
    set_form(by_element, form)

    result, product = operator(a, b), by_element(a, b[:, :1, :1])

    for n, i, j in itertools.product(range(2), range(3), range(4)):
        total = sum((int(a[n, i, k]) + 5) * (int(b[n, k, j]) - 7) for k in range(5))
        assert int(result[n, i, j]) == rounded(total, 2.0**-9)
    for n, i, k in itertools.product(range(2), range(3), range(5)):
        assert int(product[n, i, k]) == rounded((int(a[n, i, k]) + 5) * (int(b[n, 0, 0]) - 7), 2.0**-7)
