"""Each integer operator against plain Python loops, and its portable form against the eager one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from quanthost.arith.bounds import accumulator_bound
from quanthost.arith.rescale import Multipliers
from quanthost.integer.kernels.elementwise import Divide
from quanthost.integer.kernels.forms import Form, Output, set_form
from quanthost.integer.kernels.normalizing import LayerNorm, Softmax, integer_root
from quanthost.integer.kernels.products import Convolution, Linear, MatMul, Multiply
from quanthost.integer.kernels.tables import Interpolation, Lookup
from quanthost.integer.kernels.windows import AveragePool, MaxPool, Mean, WindowAverage
from quanthost.integer.numbers import Numbers
from quanthost.values import FP32_HALF_EVEN, SINGLE_ROUNDING

each_form = pytest.mark.parametrize("form", [Form.EAGER, Form.PORTABLE, Form.REFERENCE])
OUT = Numbers(scale=1.0, zero_point=3, low=-128, high=127, dtype=torch.int8)


def numbers(scale: float = 0.05, zero_point: int = -5) -> Numbers:
    return Numbers(scale=scale, zero_point=zero_point, low=-128, high=127, dtype=torch.int8)


WIDE = Numbers(scale=0.001, zero_point=0, low=-32768, high=32767, dtype=torch.int16)


def draw(*shape: int, low: int = -128, high: int = 127, dtype: torch.dtype = torch.int8) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(low, high + 1, shape, generator=generator).to(dtype)


def output(
    scales: Sequence[float], bound: int, shape: Sequence[int] = (), *, out: Numbers = OUT, offset: int = 0
) -> Output:
    multipliers = Multipliers.make(FP32_HALF_EVEN, torch.tensor(scales, dtype=torch.float32))
    return Output(multipliers.shaped(shape), out, bound=bound, offset=offset)


def rounded(accumulator: int, scale: float, out: Numbers = OUT, offset: int = 0) -> int:
    """XNNPACK's rescaling of accumulators that float32 holds, for scales that are powers of two."""
    value = round(Fraction(accumulator) * Fraction(scale) + offset) - offset + out.zero_point
    return max(out.low, min(out.high, value))


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


@given(a=st.integers(-128, 127), b=st.integers(-128, 127), ratio=st.floats(1e-3, 1e3))
@example(a=-5, b=7, ratio=1.0)
@example(a=127, b=7, ratio=1.0)
@example(a=-128, b=7, ratio=1.0)
def test_division(a: int, b: int, ratio: float) -> None:
    """The nearest integer, ties up; division by zero saturates, and zero over zero is the zero point."""
    operator = Divide(numbers(ratio, -5), numbers(1.0, 7), OUT)
    above, below = a + 5, b - 7
    if below:
        exact = Fraction(above, below) * Fraction(ratio)
        wanted = {max(-128, min(127, math.floor(exact * (1 + e) + Fraction(1, 2)) + 3)) for e in (
            Fraction(0), Fraction(1, 2**29), Fraction(-1, 2**29)
        )}  # fmt: skip
    else:
        wanted = {3 if not above else (127 if above > 0 else -128)}

    result = operator(torch.tensor([a], dtype=torch.int8), torch.tensor([b], dtype=torch.int8))

    assert int(result) in wanted


@pytest.mark.parametrize("ratio", [1e-30, 1e30])
def test_division_at_the_ends_of_its_scales(ratio: float) -> None:
    """Results that are all zero, or all beyond the range, do not overflow."""
    operator = Divide(numbers(ratio, 0), numbers(1.0, 0), OUT)

    result = operator(
        torch.tensor([1, -1, 0, 127], dtype=torch.int8), torch.tensor([127] * 4, dtype=torch.int8)
    )

    assert result.tolist() == ([3, 3, 3, 3] if ratio < 1 else [127, -128, 3, 127])


def test_lookup() -> None:
    """One table, or one for each index of dimension 1."""
    x = draw(2, 3, 4)
    tables = torch.arange(3 * 256).reshape(3, 256).remainder(251).to(torch.int16)
    for form in (Form.EAGER, Form.PORTABLE):
        one, many = Lookup(tables[1], low=-128, function="f"), Lookup(tables, low=-128, function="f")
        set_form(one, form)
        set_form(many, form)

        assert one(x).reshape(-1).tolist() == [int(tables[1, v + 128]) for v in x.reshape(-1).tolist()]
        assert all(
            int(many(x)[n, c, i]) == int(tables[c, int(x[n, c, i]) + 128])
            for n, c, i in itertools.product(range(2), range(3), range(4))
        )


def test_interpolation_is_straight_between_points() -> None:
    """A linear function is exact up to the last number, and rounded half up."""
    ends = torch.arange(-32768, 32769, 128)
    operator = Interpolation(ends * 2**6, WIDE, low=-32768, function="quarter")
    x = torch.arange(-32768, 32768).to(torch.int16)

    assert torch.equal(operator(x).long(), torch.floor(x.double() / 4 + 0.5).long())


def _shares(form: Form, operator: nn.Module, x: Tensor) -> Tensor:
    set_form(operator, form)
    result: Tensor = operator(x)
    return result


@each_form
@pytest.mark.parametrize("offset", [0, 3])
def test_averages_and_their_ties(form: Form, offset: int) -> None:
    """Ties go to even, including the zero point if the target adds it before rounding."""
    x = draw(3, 4, 4, 4)
    out = numbers(0.05, 3)
    mean = Mean(output([1 / 16], 16 * 133, out=out, offset=offset), zero_point=-5, dims=[2, 3], keepdim=False)
    pool = AveragePool(
        output([1 / 4], 4 * 133, out=out, offset=offset), zero_point=-5, kernel=[2, 2], stride=[2, 1],
        padding=[1, 0],
    )  # fmt: skip
    result, pooled = _shares(form, mean, x), _shares(form, pool, x)
    values = (x.long() + 5).tolist()

    ties = 0
    for n, c in itertools.product(range(3), range(4)):
        total = sum(map(sum, values[n][c]))
        ties += total % 16 == 8
        assert int(result[n, c]) == rounded(total, 1 / 16, out, offset)
        for h, w in itertools.product(range(3), range(3)):
            rows = [row for row in (2 * h - 1, 2 * h) if 0 <= row < 4]
            total = sum(values[n][c][row][w + k] for row in rows for k in range(2))
            ties += total % 4 == 2
            assert int(pooled[n, c, h, w]) == rounded(total, 1 / 4, out, offset)
    assert ties > 10


@each_form
def test_windows_of_unequal_size(form: Form) -> None:
    """Each place has its own divisor."""
    x = draw(2, 3, 5, 4)
    rows = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.int8)
    columns = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.int8)
    counts = rows.sum(1)[:, None] * columns.sum(1)
    operator = WindowAverage(
        output((1.0 / counts.reshape(-1)).tolist(), 16 * 133, counts.shape), rows, columns, zero_point=-5
    )
    line = WindowAverage(output((1.0 / columns.sum(1)).tolist(), 4 * 133, [3]), None, columns, zero_point=-5)
    image, flat = _shares(form, operator, x), _shares(form, line, x[0])

    for n, c, h, w in itertools.product(range(2), range(3), range(2), range(3)):
        window = x[n, c][rows[h].bool()][:, columns[w].bool()].long() + 5
        assert int(image[n, c, h, w]) == rounded(int(window.sum()), 1 / window.numel())
    for c, i, w in itertools.product(range(3), range(5), range(3)):
        window = x[0, c, i][columns[w].bool()].long() + 5
        assert int(flat[c, i, w]) == rounded(int(window.sum()), 1 / window.numel())


def test_maxima() -> None:
    """Padding is never the maximum, in windows of one and two dimensions."""
    x = draw(2, 3, 5, 6)
    image = MaxPool(kernel=[2, 3], stride=[1, 2], padding=[1, 1], dilation=[2, 1], ceil=False)
    line = MaxPool(kernel=[3], stride=[2], padding=[1], dilation=[1], ceil=True)
    lowest = torch.full((2, 3, 7, 8), -128, dtype=torch.int8)
    lowest[:, :, 1:6, 1:7] = x

    pooled, flat = image(x), line(x[0])

    for h, w in itertools.product(range(pooled.shape[2]), range(pooled.shape[3])):
        wanted = lowest[:, :, [h, h + 2]][..., 2 * w : 2 * w + 3].amax((2, 3))
        assert torch.equal(pooled[:, :, h, w], wanted)
    for w in range(flat.shape[2]):
        assert torch.equal(flat[..., w], x[0][..., max(0, 2 * w - 1) : 2 * w + 2].amax(2))


@given(
    st.lists(st.one_of(st.integers(0, 2**62 - 1), st.integers(0, 2**31 - 1).map(lambda r: r * r)), min_size=1)
)
@example([0, 1, 2, 3, 4, 2**62 - 1, (2**31 - 1) ** 2, (2**31 - 1) ** 2 - 1, 2**60, 2**60 - 1])
def test_integer_root(values: list[int]) -> None:
    """The root of the scaled number has 31 bits and is rounded down."""
    root, places = integer_root(torch.tensor(values))

    for n, r, p in zip(values, root.tolist(), places.tolist()):
        assert r == (math.isqrt(n * p * p) if n else 2**30)
        assert 2**30 <= r < 2**31


@pytest.mark.parametrize("out_scale", [1 / 256, 1 / 300, 1 / 32768])
@pytest.mark.parametrize("given_numbers", [numbers(0.1), numbers(0.0001), numbers(4.0), WIDE])
def test_softmax_stays_within_its_error(given_numbers: Numbers, out_scale: float) -> None:
    """The result is within the stated error of the exact value, for flat, steep and random inputs."""
    wide = out_scale < 1 / 1000
    out = Numbers(
        scale=out_scale, zero_point=0 if wide else -128, low=-32768 if wide else -128,
        high=32767 if wide else 127, dtype=torch.int16 if wide else torch.int8,
    )  # fmt: skip
    low, high = given_numbers.low, given_numbers.high
    x = torch.cat([draw(200, 40, low=low, high=high, dtype=torch.int16), torch.full((1, 40), high)])
    operator = Softmax(given_numbers, out, -1, 40)

    real = torch.softmax(given_numbers.real(x), -1) / out_scale + out.zero_point
    off = (operator(x).double() - real.clamp(out.low, out.high)).abs().max()

    assert off <= operator.error + 1e-9
    assert operator.error < 0.6


@pytest.mark.parametrize("eps", [1e-5, 1e-12, 0.1])
@pytest.mark.parametrize(
    ("count", "given_numbers"),
    [(1, numbers()), (2, numbers()), (48, numbers(0.01, 100)), (768, numbers()), (48, WIDE), (768, WIDE)],
)
def test_layer_norm_stays_within_its_error(count: int, given_numbers: Numbers, eps: float) -> None:
    """The result is within the stated error for random, nearly constant, constant and extreme rows."""
    out = Numbers(scale=0.02, zero_point=-3, low=-32768, high=32767, dtype=torch.int16)
    generator = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(count, generator=generator) for _ in range(2))
    low, high = given_numbers.low, given_numbers.high
    x = draw(64, count, low=low, high=high, dtype=torch.int16).long()
    x[:8] = 7
    x[1:4, 0] += 1
    x[4, ::2], x[5], x[6, 0], x[7, : count // 2] = high, low, high, low
    operator = LayerNorm(given_numbers, out, count=count, rank=1, weight=weight, bias=bias, eps=eps)

    real = torch.nn.functional.layer_norm(
        given_numbers.real(x), [count], weight.double(), bias.double(), eps
    ) / out.scale + out.zero_point  # fmt: skip
    off = (operator(x).double() - real).abs().max()

    assert off <= operator.error + 1e-9
    assert operator.error < 0.51
    assert max(operator.bounds) < 2**62
