"""Averages and maxima over windows against plain Python loops, in each form."""

from __future__ import annotations

import itertools

import pytest
import torch
from kernel_kit import draw, each_form, numbers, output, rounded
from torch import Tensor, nn

from quanthost.integer.kernels.forms import Form, set_form
from quanthost.integer.kernels.windows import AveragePool, MaxPool, Mean, WindowAverage


def run(form: Form, operator: nn.Module, x: Tensor) -> Tensor:
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
    result, pooled = run(form, mean, x), run(form, pool, x)
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
    image, flat = run(form, operator, x), run(form, line, x[0])

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
