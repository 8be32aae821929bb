"""Sketches as monoids: bit for bit one state for each order, split and merge of the data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quanthost.arith import HUGE, MAX_BINS, ChannelRange, RangeSketch
from quanthost.errors import ValueCheckError

LEAST_WIDTH = Fraction(1, 2**126)
SPECIAL = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e30, -3.4e38, 1e-45, -1e-45, 9.9e29, -1.2e-38, 1024.0]

# Magnitudes of all octaves, so that the data of one part is often below a bin of another's.
scaled = st.builds(
    lambda fraction, exponent: torch.tensor(math.ldexp(fraction, exponent)).item(),
    st.floats(-1.0, 1.0, width=16), st.integers(-149, 99),
)  # fmt: skip
values = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32), scaled, st.floats(-10.0, 10.0, width=32))
parts = st.lists(values, max_size=12).map(torch.tensor)


def sketch_of(*tensors: Tensor) -> RangeSketch:
    sketch = RangeSketch()
    for tensor in tensors:
        sketch.update(tensor)
    return sketch


def bits(sketch: RangeSketch) -> dict[str, bytes]:
    """The state as bytes: unlike ``==`` it tells 0.0 from -0.0."""
    return {key: tensor.numpy().tobytes() for key, tensor in sketch.state().items()}


def is_ordinary(value: float) -> bool:
    return abs(value) < HUGE


@given(parts, parts)
def test_merge_commutes(a: Tensor, b: Tensor) -> None:
    """The order of two streams does not matter."""
    assert bits(sketch_of(a).merge(sketch_of(b))) == bits(sketch_of(b).merge(sketch_of(a)))


@given(parts, parts, parts)
def test_merge_associates(a: Tensor, b: Tensor, c: Tensor) -> None:
    """The grouping of merges does not matter."""
    x, y, z = sketch_of(a), sketch_of(b), sketch_of(c)
    assert bits(x.merge(y).merge(z)) == bits(x.merge(y.merge(z)))


@given(parts)
def test_empty_sketch_is_the_identity(a: Tensor) -> None:
    """Merging with an empty sketch changes nothing, on either side."""
    sketch, empty = sketch_of(a), RangeSketch()
    assert bits(sketch.merge(empty)) == bits(sketch) == bits(empty.merge(sketch))


@given(parts, parts, parts, st.randoms(use_true_random=False))
def test_split_and_order_do_not_show(a: Tensor, b: Tensor, c: Tensor, random: Random) -> None:
    """Updates with all values, by part, by value in any order, and merges give the same state."""
    whole = torch.cat((a, b, c))
    shuffled = whole.tolist()
    random.shuffle(shuffled)
    expected = bits(sketch_of(whole))
    assert bits(sketch_of(a, b, c)) == expected
    assert bits(sketch_of(c, a).merge(sketch_of(b))) == expected
    assert bits(sketch_of(*map(torch.tensor, shuffled))) == expected


@given(parts, parts)
def test_merge_leaves_its_operands(a: Tensor, b: Tensor) -> None:
    """A merge does not change its operands, nor does a later update of the result."""
    x, y = sketch_of(a), sketch_of(b)
    before = bits(x), bits(y)
    x.merge(y).update(torch.tensor([3.0]))
    assert (bits(x), bits(y)) == before


@given(parts.filter(len))
def test_content_agrees_with_slow_implementation(a: Tensor) -> None:
    """Extremes, tallies and histogram equal exact fractions, on the finest grid that fits."""
    sketch, data = sketch_of(a), a.tolist()
    ordinary = [value for value in data if is_ordinary(value)]
    assert (sketch.count, sketch.ordinary) == (len(data), len(ordinary))
    assert sketch.nan == sum(map(math.isnan, data))
    assert sketch.positive_infinity == data.count(math.inf)
    assert sketch.negative_infinity == data.count(-math.inf)
    assert sketch.huge == sum(HUGE <= abs(value) < math.inf for value in data)
    if not ordinary:
        assert (sketch.minimum, sketch.maximum, len(sketch.histogram)) == (math.inf, -math.inf, 0)
        return
    assert (sketch.minimum, sketch.maximum) == (min(ordinary), max(ordinary))
    width = Fraction(sketch.bin_width)
    expected = Counter(math.floor(Fraction(value) / width) for value in ordinary)
    first = min(expected)
    assert sketch.edges().tolist() == [float((first + i) * width) for i in range(len(sketch.histogram) + 1)]
    assert {first + i: n for i, n in enumerate(sketch.histogram.tolist()) if n} == expected
    assert bins_from_zero(ordinary, width) <= MAX_BINS
    assert width == LEAST_WIDTH or bins_from_zero(ordinary, width / 2) > MAX_BINS


def bins_from_zero(data: list[float], width: Fraction) -> int:
    """Bins of that width from the one of 0, or of the least value, to that of the greatest."""
    return math.floor(Fraction(max(*data, 0.0)) / width) - math.floor(Fraction(min(*data, 0.0)) / width) + 1


def test_tiny_negative_value_stays_below_zero() -> None:
    """A negative value that underflows when divided by the bin width is not counted at zero."""
    for dtype, tiny in ((torch.float32, -(2.0**-149)), (torch.float64, -5e-324)):
        sketch = sketch_of(torch.tensor([tiny, 5000.0, 4000.0], dtype=dtype))
        assert sketch.minimum == tiny
        assert sketch.edges()[0].item() == -sketch.bin_width
        assert sketch.histogram[:2].tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_dtypes(dtype: torch.dtype) -> None:
    """Values of float32 give the same sketch in every dtype."""
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert bits(sketch_of(x)) == bits(sketch_of(x.to(torch.float32)))


def layouts() -> dict[str, Tensor]:
    x = torch.randn(4, 6, 10, 8, generator=torch.Generator().manual_seed(1))
    return {
        "transposed": x.transpose(0, 3),
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "strided": x[:, ::2, 1:7, ::3],
        "expanded": x[:1].expand(5, -1, -1, -1),
        "scalar": x[0, 0, 0, 0],
        "requires grad": x.clone().requires_grad_(),
    }


@pytest.mark.parametrize(("name", "tensor"), layouts().items(), ids=layouts().keys())
def test_layout_does_not_show(name: str, tensor: Tensor) -> None:
    """A view of any strides gives the sketch of its contiguous copy, and is not changed."""
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    assert bits(sketch_of(tensor)) == bits(sketch_of(copy))
    assert torch.equal(tensor, copy), name


def test_a_large_tensor_is_sampled() -> None:
    """The counts sum to its size, the extremes are exact and counted, and it is the same each time."""
    x = torch.randn(300_001, generator=torch.Generator().manual_seed(2))
    x[17] = 90.0
    sketch = sketch_of(x)
    assert int(sketch.histogram.sum()) == sketch.count == x.numel()
    assert (sketch.minimum, sketch.maximum) == (x.min().item(), 90.0)
    assert int(sketch.histogram[-1]) == 1
    assert int(sketch.histogram[0]) >= 1
    assert bits(sketch) == bits(sketch_of(x.clone()))
    whole = sketch_of(*x.split(7_000))
    below = sketch.histogram.cumsum(0) / x.numel()
    assert torch.allclose(below, whole.histogram.cumsum(0) / x.numel(), atol=0.02)


@pytest.mark.parametrize(
    "shape", [(1, 32, 112, 112), (1, 3, 224, 224), (64, 1024), (1, 7, 111, 113)], ids=str
)
def test_a_sample_meets_borders_as_often_as_they_are(shape: tuple[int, ...]) -> None:
    """The sampled share of a value at an image's left border is right for any width."""
    x = torch.zeros(shape)
    x[..., 0] = 1.0
    sketch = sketch_of(x)
    share = int(sketch.histogram[-1]) / x.numel()
    assert share == pytest.approx(1 / shape[-1], rel=0.1)


@given(st.integers(8193, 40_000), st.floats(1.0, 20.0), st.integers(0, 99))
def test_a_denser_sample_counts_as_many(size: int, density: float, seed: int) -> None:
    """All values in sum, each of the sample as often as before or less, and the same extremes."""
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    plain, dense, other = sketch_of(tensor), RangeSketch(), RangeSketch()
    dense.update(tensor, density)
    other.update(tensor.reshape(1, -1), density)
    assert bits(dense) == bits(other)
    assert int(dense.histogram.sum()) == size == dense.ordinary
    assert (dense.minimum, dense.maximum) == (plain.minimum, plain.maximum)
    assert int((dense.histogram > 0).sum()) >= int((plain.histogram > 0).sum()) * 0.9


def test_a_denser_sample_finds_more_of_the_rare() -> None:
    """Of a hundred distant values in a million, ten times the density counts ten times as many."""
    tensor = torch.rand(1_000_003)
    tensor[::10_007] = 8.0 + torch.rand(100)
    counts = []
    for density in (1.0, 10.0):
        sketch = RangeSketch()
        sketch.update(tensor, density)
        far = sketch.histogram[sketch.edges()[:-1] >= 8.0]
        counts.append(int((far > 1).sum()))
        assert abs(int(far.sum()) - 100) < 80 / density**0.5
    assert counts[1] > 4 * counts[0]


def test_batches_are_sampled_at_different_places() -> None:
    """Values at every 27th place of each batch are counted with the right share."""
    generator = torch.Generator().manual_seed(4)
    sketch = RangeSketch()
    for _ in range(64):
        x = torch.rand(400_000, generator=generator) * 0.5
        x[::27] = 3.0
        x[5] = 4.0
        sketch.update(x)
    above = int(sketch.histogram[sketch.edges()[1:] > 1.0].sum())
    assert above / sketch.count == pytest.approx(1 / 27, rel=0.4)


def test_a_stream_of_many_elements() -> None:
    """10^8 of them, in batches; the memory is that of a sketch, and the order does not matter."""
    batch = torch.randn(1_000_000, generator=torch.Generator().manual_seed(3))
    batches = [batch * scale for scale in (1.0, 3.0, 0.1, 2.0)]
    forward, backward = RangeSketch(), RangeSketch()
    for number in range(100):
        forward.update(batches[number % 4])
        backward.update(batches[3 - number % 4])
    assert forward.count == 10**8
    assert bits(forward) == bits(backward)
    assert forward.histogram.numel() <= MAX_BINS


def test_empty_tensor_changes_nothing() -> None:
    """A tensor without elements does not change the sketch."""
    sketch = sketch_of(torch.ones(3))
    before = bits(sketch)
    sketch.update(torch.zeros(0, 5))
    assert bits(sketch) == before


@pytest.mark.parametrize("statistics", [RangeSketch, lambda: ChannelRange(0)], ids=["sketch", "channels"])
def test_integers_are_refused(statistics: Callable[[], RangeSketch | ChannelRange]) -> None:
    """Only float tensors have a range to quantize."""
    with pytest.raises(ValueCheckError, match=r"a tensor of torch\.int64"):
        statistics().update(torch.arange(3))


@given(parts)
def test_state_round_trip(a: Tensor) -> None:
    """A sketch restored from its tensors is the same and can be updated; the histogram has at most 16 KiB."""
    sketch = sketch_of(a)
    state = sketch.state()
    assert state["histogram"].nbytes <= 16 * 1024
    back = RangeSketch.from_state(state)
    assert bits(back) == bits(sketch)
    back.update(torch.tensor([0.5]))
    assert bits(back) == bits(sketch_of(a, torch.tensor([0.5])))
    assert bits(RangeSketch.from_state(state)) == bits(sketch)


@pytest.mark.parametrize(
    ("key", "tensor", "text"),
    [
        pytest.param("range", None, "nothing as 'range'", id="missing"),
        pytest.param("range", torch.zeros(2), "float32 of shape .2. as 'range'", id="dtype"),
        pytest.param("tally", torch.zeros(4).long(), "int64 of shape .4. as 'tally'", id="shape"),
        pytest.param("tally", torch.tensor([9, 0, 0, 0, 0]), "2 values for 9 ordinary", id="sum"),
        pytest.param("histogram", torch.ones(2).long(), "2 bins with 2 values", id="bins"),
        pytest.param("range", torch.tensor([math.inf, -math.inf]).double(), "needed: 0 bins", id="range"),
    ],
)
def test_damaged_state_is_refused(key: str, tensor: Tensor | None, text: str) -> None:
    """A state whose parts contradict each other is refused, and the error says which."""
    state = sketch_of(torch.tensor([1.0, 2.0])).state() | {key: tensor}
    with pytest.raises(ValueCheckError, match=text):
        RangeSketch.from_state({name: part for name, part in state.items() if part is not None})


def test_equality_is_of_content() -> None:
    """Sketches of equal streams are equal; another value, tally or type makes them unequal."""
    x = torch.tensor([1.0, -2.0])
    assert sketch_of(x) == sketch_of(x.flip(0))
    assert sketch_of(x) != sketch_of(x, torch.tensor([1.0]))
    assert sketch_of(x, torch.tensor([math.nan])) != sketch_of(x, torch.tensor([math.inf]))
    assert sketch_of(x) != x.tolist()


def channels_of(axis: int, *tensors: Tensor) -> ChannelRange:
    channels = ChannelRange(axis)
    for tensor in tensors:
        channels.update(tensor)
    return channels


rows = st.lists(st.tuples(values, values, values), max_size=6).map(lambda r: torch.tensor(r).reshape(-1, 3))


@given(rows, rows, rows)
def test_channel_ranges_form_a_monoid(a: Tensor, b: Tensor, c: Tensor) -> None:
    """Order, grouping and split of the data do not matter, and an empty range changes nothing."""
    x, y, z = channels_of(1, a), channels_of(1, b), channels_of(1, c)
    whole = channels_of(1, torch.cat((a, b, c)))
    assert x.merge(y).merge(z) == whole
    assert x.merge(y.merge(z)) == whole
    assert z.merge(x).merge(y) == whole
    assert channels_of(1, b, c, a) == whole
    assert whole.merge(ChannelRange(1)) == whole == ChannelRange(1).merge(whole)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channel_range_is_the_range_of_each_channel(axis: int) -> None:
    """Extremes equal those of a sketch per channel; values that are not ordinary are excluded."""
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(4))
    x[0, 1, 2], x[1, 1, 1], x[2, 0, 0], x[2, 3, 4] = math.nan, math.inf, -1e30, -math.inf
    channels = channels_of(axis, x)
    sketches = [sketch_of(x.select(axis, c)) for c in range(x.shape[axis])]
    assert channels.minimum.tolist() == [sketch.minimum for sketch in sketches]
    assert channels.maximum.tolist() == [sketch.maximum for sketch in sketches]
    assert channels.excluded == 4


def test_channel_range_of_one_dimension() -> None:
    """Each element of a vector is a channel of its own."""
    channels = channels_of(0, torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0]))
    assert (channels.minimum.tolist(), channels.maximum.tolist()) == ([0.5, -2.0], [1.0, 4.0])


def test_channel_without_ordinary_value() -> None:
    """A channel with only NaN has no range; the others are unaffected."""
    channels = channels_of(0, torch.tensor([[math.nan, math.nan], [1.0, 2.0]]))
    assert (channels.minimum.tolist(), channels.maximum.tolist()) == ([math.inf, 1.0], [-math.inf, 2.0])


def test_contradictory_channels_are_refused() -> None:
    """The error names a different number of channels, a different axis or a missing axis."""
    channels = channels_of(0, torch.ones(2, 3))
    with pytest.raises(ValueCheckError, match="4 channels after 2"):
        channels.update(torch.ones(4, 3))
    with pytest.raises(ValueCheckError, match="along axis 0 and axis 1"):
        channels.merge(ChannelRange(1))
    with pytest.raises(ValueCheckError, match=r"shape \[3\]\n  needed: an axis 1"):
        ChannelRange(1).update(torch.ones(3))
