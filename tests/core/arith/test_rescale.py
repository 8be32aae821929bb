"""Rescaling: each profile's two forms against the specification, number by number."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from slow_rescale import float32, half_even, rescaled, saturate
from torch import nn

from quanthost.arith.rescale import (
    CommonShiftSum,
    IntegerRescale,
    Multipliers,
    RescaledSum,
    make_sum,
    rescale,
)
from quanthost.errors import ConversionError
from quanthost.values import (
    FP32_HALF_EVEN,
    GEMMLOWP,
    POWER_OF_TWO,
    PROFILES,
    SINGLE_ROUNDING,
    TOSA,
    TOSA_DOUBLE_ROUND,
    ArithmeticProfile,
)

each_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
LOW, HIGH = -255, 255
LARGEST = 2**31 - 1

mantissas = st.one_of(st.just(0.5), st.floats(0.5, 1.0, exclude_max=True), st.just(1.0 - 2.0**-24))
exponents = st.integers(-30, 5)


@st.composite
def scales(draw: st.DrawFn, profile: ArithmeticProfile) -> float:
    """Scales at both ends of the profile's range, and between them."""
    exponent = draw(st.integers(-30, -1)) if profile == POWER_OF_TWO else draw(exponents)
    scale = math.ldexp(draw(mantissas), exponent)
    return float(torch.tensor(scale, dtype=torch.float32)) if profile == FP32_HALF_EVEN else scale


@st.composite
def accumulators(draw: st.DrawFn, scale: float, most: int) -> int:
    """Any accumulators, the extremes, and those next to a tie of either sign."""
    tie = draw(st.integers(-300, 300))
    beside = math.floor((tie + 0.5) / scale) + draw(st.integers(-1, 1))
    given_number = draw(st.one_of(st.integers(-most, most), st.sampled_from([-most, most, 0, 1, -1])))
    return draw(st.sampled_from([given_number, saturate(beside, -most, most)]))


def _most(multipliers: Multipliers) -> int:
    """The largest accumulator that stays within int32 when it is shifted."""
    return LARGEST // multipliers.room(1)


@each_profile
def test_both_forms_are_the_specification(profile: ArithmeticProfile) -> None:
    """The eager and the integer form equal the specification's steps."""

    @settings(max_examples=400, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        scale = data.draw(scales(profile))
        multipliers = Multipliers.make(profile, torch.tensor([scale], dtype=torch.float64)).shaped(())
        most = _most(multipliers)
        numbers = data.draw(st.lists(accumulators(scale, most), min_size=1, max_size=8))
        wanted = [saturate(rescaled(profile, number, scale), LOW, HIGH) for number in numbers]
        given_numbers = torch.tensor(numbers)

        eager = rescale(given_numbers, multipliers).clamp(LOW, HIGH)
        exact = IntegerRescale.make(multipliers, low=LOW, high=HIGH, bound=LARGEST)(given_numbers)

        assert eager.tolist() == wanted
        assert exact.tolist() == wanted

    check()


@each_profile
def test_scales_along_a_dimension(profile: ArithmeticProfile) -> None:
    """Each channel has its own multiplier, in a tensor of any rank."""
    channels = torch.tensor([0.25, 0.1, 0.003], dtype=torch.float64)
    given_numbers = torch.arange(-3999, 3999).reshape(2, 3, -1)
    multipliers = Multipliers.make(profile, channels).shaped((-1, 1))
    exact = IntegerRescale.make(multipliers, low=LOW, high=HIGH, bound=4000)

    together = rescale(given_numbers, multipliers).clamp(LOW, HIGH)

    for number, scale in enumerate(channels):
        alone = Multipliers.make(profile, scale.reshape(1)).shaped(())
        assert torch.equal(together[:, number], rescale(given_numbers[:, number], alone).clamp(LOW, HIGH))
    assert torch.equal(together.to(torch.int64), exact(given_numbers))


@pytest.mark.parametrize(
    ("profile", "accumulator", "scale", "result"),
    [
        # IEEE 754 4.3.1: a tie goes to the even neighbour, whatever its sign
        (FP32_HALF_EVEN, 1, 0.5, 0), (FP32_HALF_EVEN, 3, 0.5, 2), (FP32_HALF_EVEN, -3, 0.5, -2),
        (FP32_HALF_EVEN, 5, 0.5, 2), (FP32_HALF_EVEN, -1, 0.5, 0),
        # 2^24 + 1 is no float32: it becomes 2^24 before it is multiplied, and half of that is even
        (FP32_HALF_EVEN, 2**24 + 1, 2.0**-20, 16),
        # RoundingDivideByPOT: a tie goes away from zero
        (GEMMLOWP, 5, 0.5, 3), (GEMMLOWP, -5, 0.5, -2), (GEMMLOWP, 10, 0.25, 3), (GEMMLOWP, -10, 0.25, -3),
        # one rounding: half of the last place is added, then shifted down, so that a tie goes up
        (SINGLE_ROUNDING, 5, 0.5, 3), (SINGLE_ROUNDING, -5, 0.5, -2), (SINGLE_ROUNDING, -10, 0.25, -2),
        (TOSA, -10, 0.25, -2), (TOSA, 10, 0.25, 3),
        # apply_scale_32 with double_round, shift 33 > 31: 2^30 more is added from 0 upwards, less below
        (TOSA_DOUBLE_ROUND, 10, 0.25, 3), (TOSA_DOUBLE_ROUND, -10, 0.25, -3),
        (POWER_OF_TWO, 10, 0.25, 3), (POWER_OF_TWO, -10, 0.25, -2), (POWER_OF_TWO, 7, 0.3, 2),
    ],
)  # fmt: skip
def test_numbers_worked_out_by_hand(
    profile: ArithmeticProfile, accumulator: int, scale: float, result: int
) -> None:
    """Ties by the rule of each specification."""
    multipliers = Multipliers.make(profile, torch.tensor([scale], dtype=torch.float64)).shaped(())
    number = torch.tensor([accumulator])

    assert rescale(number, multipliers).tolist() == [result]
    assert IntegerRescale.make(multipliers, low=LOW, high=HIGH, bound=LARGEST)(number).tolist() == [result]


@given(accumulator=st.integers(-64 * 255, 64 * 255), zero_point=st.integers(-128, 127))
@example(accumulator=32, zero_point=-19)
def test_an_offset_decides_ties(accumulator: int, zero_point: int) -> None:
    """If the zero point is added before rounding, ties make the sum even."""
    multipliers = Multipliers.make(FP32_HALF_EVEN, torch.tensor([1 / 64])).shaped(())
    number = torch.tensor([accumulator])
    wanted = half_even(float32(Fraction(accumulator, 64) + zero_point)) - zero_point

    exact = IntegerRescale.make(multipliers, low=LOW, high=HIGH, bound=LARGEST, offset=zero_point)

    assert rescale(number, multipliers, offset=zero_point).tolist() == [wanted]
    assert exact(number).tolist() == [saturate(wanted, LOW, HIGH)]


@pytest.mark.parametrize("scale", [0.0, -0.5, math.nan, math.inf])
@each_profile
def test_what_is_no_scale_is_refused(profile: ArithmeticProfile, scale: float) -> None:
    """The error names the operator, the value and its channel."""
    with pytest.raises(ConversionError) as caught:
        Multipliers.make(profile, torch.tensor([0.5, scale]), operator="conv2d_3")

    assert str(caught.value).startswith(f"conv2d_3 would be rescaled by {scale:.6g} in channel 1\n")
    assert "a positive number" in str(caught.value)


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**40])
@each_profile
def test_scales_outside_of_the_profile_are_refused(profile: ArithmeticProfile, scale: float) -> None:
    """Scales that no multiplier and shift can represent are refused."""
    with pytest.raises(ConversionError, match=rf"in channel 1\n  needed: from about 2\^.* {profile.name}"):
        Multipliers.make(profile, torch.tensor([0.5, scale], dtype=torch.float64), operator="conv2d_3")


class _Rescales(nn.Module):
    def __init__(self, exact: IntegerRescale) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.exact(x)


@each_profile
def test_the_integer_form_has_no_float(profile: ArithmeticProfile) -> None:
    """The traced form has no float tensor, and the same numbers."""
    multipliers = Multipliers.make(profile, torch.tensor([0.3, 0.01])).shaped((-1,))
    exact = IntegerRescale.make(multipliers, low=-128, high=127, bound=LARGEST)
    numbers = torch.randint(-20000, 20000, (64, 2), generator=torch.Generator().manual_seed(0))

    exported = torch.export.export(_Rescales(exact), (numbers,))

    values = [node.meta["val"] for node in exported.graph.nodes if node.op == "call_function"]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    assert tensors
    assert not any(value.is_floating_point() for value in tensors)
    assert torch.equal(exported.module()(numbers), exact(numbers))


ratios = st.floats(0.02, 4.0)
bytes_ = st.integers(-128, 127)


def _xnnpack_sum(ratio: tuple[float, float], a: int, b: int, *, subtracts: bool) -> int:
    """``xnn_init_qs8_add_minmax_scalar_params`` and its kernel, in float32 and Python's integers."""
    values = [float(torch.tensor(r, dtype=torch.float32)) for r in ratio]
    shift = 20 - (math.frexp(max(values))[1] - 1)
    first, second = (half_even(Fraction(v) * 2**shift) for v in values)
    return (a * first + b * (-second if subtracts else second) + (1 << (shift - 1))) >> shift


@given(
    ratio=st.tuples(ratios, ratios),
    a=bytes_,
    b=bytes_,
    zeros=st.tuples(bytes_, bytes_),
    subtracts=st.booleans(),
)
def test_common_shift_sum(
    ratio: tuple[float, float], a: int, b: int, zeros: tuple[int, int], *, subtracts: bool
) -> None:
    """XNNPACK's sum: both products over one shift, one rounding."""
    operator = CommonShiftSum.make(*ratio, 1.0, subtracts=subtracts)

    result = operator(torch.tensor([a]), torch.tensor([b]), zero_points=zeros, low=-300, high=300)

    wanted = _xnnpack_sum(ratio, a - zeros[0], b - zeros[1], subtracts=subtracts)
    assert result.tolist() == [saturate(wanted, -300, 300)]


@pytest.mark.parametrize(
    "profile", [GEMMLOWP, SINGLE_ROUNDING, TOSA, TOSA_DOUBLE_ROUND], ids=lambda p: p.name
)
def test_rescaled_sum(profile: ArithmeticProfile) -> None:
    """LiteRT's sum: three rescalings, 20 bits behind the point between them."""

    @given(st.tuples(ratios, ratios, ratios), bytes_, bytes_, st.tuples(bytes_, bytes_), st.booleans())
    def check(
        scales: tuple[float, float, float], a: int, b: int, zeros: tuple[int, int], subtracts: bool
    ) -> None:
        operator = RescaledSum.make(profile, *scales, subtracts=subtracts)
        unit = 2 * max(scales[:2])
        one, two = (
            rescaled(profile, (x - zero) << 20, scale / unit) for x, zero, scale in zip((a, b), zeros, scales)
        )
        total = one - two if subtracts else one + two
        wanted = rescaled(profile, total, unit / (scales[2] * 2**20))

        result = operator(torch.tensor([a]), torch.tensor([b]), zero_points=zeros, low=-300, high=300)

        assert result.tolist() == [saturate(wanted, -300, 300)]

    check()


def test_sums_that_a_profile_does_not_have() -> None:
    """XNNPACK adds 8-bit tensors whose scales are not too far apart."""
    with pytest.raises(ConversionError, match="a sum of 16-bit tensors with the profile fp32_half_even"):
        make_sum(FP32_HALF_EVEN, 1.0, 1.0, 1.0, subtracts=False, bits=16)
    with pytest.raises(ConversionError, match=r"rescaled by 512 in channel 1\n  needed: a ratio"):
        make_sum(FP32_HALF_EVEN, 1.0, 512.0, 1.0, subtracts=False)
