"""Softmax and layer norm stay within their stated errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_kit import WIDE, draw, numbers

from quanthost.integer.kernels.normalizing import LayerNorm, Softmax, integer_root
from quanthost.integer.numbers import Numbers


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
