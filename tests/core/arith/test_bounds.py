"""Bounds of accumulators: never exceeded, but reached; and the dtypes that they allow."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from quanthost.arith.bounds import accumulator_bound, check_width, exact_dtype
from quanthost.errors import ConversionError

rows = st.lists(st.integers(-127, 127), min_size=1, max_size=5)


@given(
    row=rows,
    low=st.integers(-128, 0),
    high=st.integers(1, 127),
    bias=st.integers(-(2**20), 2**20),
    data=st.data(),
)
def test_no_partial_sum_exceeds_it(
    row: list[int], low: int, high: int, bias: int, data: st.DataObject
) -> None:
    """The bound holds for all extreme inputs, in any order, with the bias first or last."""
    zero_point = data.draw(st.integers(low, high))
    bound = int(accumulator_bound(torch.tensor([row]), low, high, zero_point, torch.tensor([bias])))
    order = data.draw(st.permutations(range(len(row))))

    for inputs in itertools.product((low, high), repeat=len(row)):
        terms = [row[i] * (inputs[i] - zero_point) for i in order]
        sums = [*itertools.accumulate(terms), *itertools.accumulate([bias, *terms])]
        assert max(map(abs, sums)) <= bound


@given(row=rows)
def test_it_is_reached(row: list[int]) -> None:
    """The bound is reached for a symmetric range and inputs with the signs of the weights."""
    bound = int(accumulator_bound(torch.tensor([row]), -100, 100, 0, None))

    assert bound == sum(abs(weight) * 100 for weight in row)


@pytest.mark.parametrize(
    ("bound", "dtype"),
    [(2**24, torch.float32), (2**24 + 1, torch.float64), (2**53, torch.float64), (2**53 + 1, torch.int64)],
)
def test_exact_dtype(bound: int, dtype: torch.dtype) -> None:
    """A float dtype represents all integers up to its mantissa."""
    assert exact_dtype(bound) is dtype


@pytest.mark.parametrize("batch", [1, 17])
def test_float32_convolutions_up_to_the_bound_are_exact(batch: int) -> None:
    """The float sums of a 3×3 convolution equal those of int64, so Winograd is not used."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (8, 51, 3, 3), generator=generator)
    x = torch.randint(-255, 256, (batch, 51, 9, 9), generator=generator)
    weight[0], x[0] = 127, 255
    bound = int(accumulator_bound(weight.flatten(1), -255, 255, 0, None).max())
    assert exact_dtype(bound) is torch.float32
    assert bound > 2**23

    result = F.conv2d(x.float(), weight.float(), padding=1)

    columns = F.unfold(x.double(), 3, padding=1)
    wanted = (weight.flatten(1).double() @ columns).reshape(result.shape)
    assert torch.equal(result.double(), wanted)


def test_what_a_register_does_not_hold_is_refused() -> None:
    """The error names the operator, the bound and the channels."""
    bounds = torch.tensor([100, 40000, 32767, 32768])

    with pytest.raises(ConversionError) as caught:
        check_width(bounds, 16, operator="linear_2")

    assert (
        str(caught.value)
        == """\
linear_2 can reach 40000 in 2 of 4 channels (1, 3)
  needed: at most 32767, the maximum of 16 bits with sign
  where:  stage convert, node linear_2
  to do:  keep this operator in float by an override, narrow the range of its input or weights, or choose \
a profile with wider accumulators"""
    )
    check_width(bounds, 17, operator="linear_2")
