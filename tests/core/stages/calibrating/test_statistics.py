"""Statistics as values: one result for every order and split of the data, files, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import safetensors.torch
import torch
from flow_nets import BACKEND, Other, images, prepared, rand
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import quanthost
from quanthost import Override, Statistics
from quanthost.arith.channel_range import ChannelRange
from quanthost.errors import RequestError, StatisticsError, ValueCheckError
from quanthost.stages.calibrating.statistics import Shard, merge_statistics
from quanthost.stages.records import PreparedModel

DATA = images(9)


@pytest.fixture(scope="module")
def net() -> PreparedModel:
    return prepared()


@pytest.fixture(scope="module")
def whole(net: PreparedModel) -> Statistics:
    return quanthost.collect_statistics(net, DATA)


def shares(net: PreparedModel, count: int) -> list[Statistics]:
    return [quanthost.collect_statistics(net, DATA, shard=f"{n}/{count}") for n in range(1, count + 1)]


def refused(work: Callable[[], Any], kind: type[Exception] = StatisticsError) -> str:
    with pytest.raises(kind) as caught:
        work()
    return str(caught.value)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(2, 12), seed=st.integers(0, 1000))
def test_shares_merge_to_what_one_process_sees(
    net: PreparedModel, whole: Statistics, count: int, seed: int
) -> None:
    """Bit for bit, in any order of data and shares; more shares than batches leave some empty."""
    shuffled = random.Random(seed)
    parts = shares(net, count)
    shuffled.shuffle(parts)
    assert merge_statistics(parts).to_bytes() == whole.to_bytes()
    assert parts[0].merge(parts[1]).batches == parts[0].batches + parts[1].batches
    data = DATA.copy()
    shuffled.shuffle(data)
    assert quanthost.collect_statistics(net, data).to_bytes() == whole.to_bytes()


def test_a_program_from_merged_statistics_is_the_same(net: PreparedModel, whole: Statistics) -> None:
    """Ranges, estimator and biases come from nothing else."""
    merged = merge_statistics(shares(net, 3))
    made, wanted = (quanthost.convert(quanthost.calibrate(net, given)) for given in (merged, DATA))
    assert made.refinement == wanted.refinement
    assert torch.equal(made.module(DATA[0]), wanted.module(DATA[0]))
    assert made.calibrated.data_digest == whole.data_digest


def test_a_file_gives_back_what_was_saved(net: PreparedModel, whole: Statistics, tmp_path: Path) -> None:
    """Without pickle, and the same bytes each time."""
    path = tmp_path / "all.safetensors"
    whole.save(path)
    loaded = Statistics.load(path)
    assert loaded.to_bytes() == path.read_bytes() == whole.to_bytes()
    assert (loaded.origin, loaded.parts, loaded.complete) == (whole.origin, whole.parts, True)
    assert loaded.tensors == whole.tensors
    assert "linear/histogram" in safetensors.torch.load_file(path)
    quanthost.convert(quanthost.calibrate(net, loaded))


def test_channels_have_ranges_of_their_own_in_a_file(whole: Statistics) -> None:
    """Statistics of channels keep their axis."""
    channels = ChannelRange(1)
    channels.update(rand(2, 3, 4))
    some = attrs.evolve(whole, tensors={"x@1": channels, "never seen@0": ChannelRange(0)})
    again = Statistics.from_bytes(some.to_bytes(), where="here")
    assert again.tensors == some.tensors
    merged = some.merge(attrs.evolve(again, parts=(attrs.evolve(whole.parts[0], batches=1),)))
    assert merged.tensors == some.tensors


def test_memory_of_a_tensor_is_bounded(whole: Statistics) -> None:
    """16 KiB and a little, whatever the data."""
    for sketch in whole.tensors.values():
        assert sum(tensor.numel() * tensor.itemsize for tensor in sketch.state().values()) <= 2048 * 8 + 64


def test_an_override_that_keeps_more_in_float_needs_no_new_data(
    net: PreparedModel, whole: Statistics
) -> None:
    """The float tensors are the same, and those that are still quantized have their statistics."""
    fewer = prepared(overrides=(Override(operator="aten.linear", keep_float=True),))
    made = quanthost.calibrate(fewer, whole)
    wanted = quanthost.calibrate(fewer, DATA)
    assert torch.equal(quanthost.convert(made).module(DATA[0]), quanthost.convert(wanted).module(DATA[0]))
    some = wanted.statistics
    assert some is not None
    lacking = sorted(whole.tensors.keys() - some.tensors.keys())
    assert lacking
    assert refused(lambda: quanthost.calibrate(net, some)).startswith(
        f"statistics without the tensors {', '.join(lacking)}\n"
    )


class Pooled(nn.Module):
    """A pool between two layers: all its tensors share one observer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(nn.functional.max_pool2d(torch.relu(self.first(x)), 2))


def test_tensors_may_share_an_observer_elsewhere() -> None:
    """An override takes a pool out of the tensors that share a range; statistics go both ways."""
    captured = quanthost.capture(Pooled().eval(), (DATA[0],))
    kept = (Override(operator="aten.max_pool2d", keep_float=True),)
    for first, second in (((), kept), (kept, ())):
        statistics = quanthost.collect_statistics(quanthost.prepare(captured, BACKEND, overrides=first), DATA)
        other = quanthost.prepare(captured, BACKEND, overrides=second)
        assert set(statistics.tensors) != set(quanthost.collect_statistics(other, DATA).tensors)

        result = quanthost.convert(quanthost.calibrate(other, statistics)).module(DATA[0])
        wanted = quanthost.convert(quanthost.calibrate(other, DATA)).module(DATA[0])
        assert (result - wanted).norm() < 0.01 * wanted.norm()


def test_statistics_of_another_model_are_refused(whole: Statistics) -> None:
    """With both digests."""
    text = refused(lambda: quanthost.calibrate(prepared(Other()), whole))
    assert text.startswith("statistics of another model: model sha256:")
    assert "needed: model sha256:" in text


def test_statistics_of_another_version_are_refused(net: PreparedModel, whole: Statistics) -> None:
    """With the versions."""
    versions = tuple((name, "0.0" if name == "torch" else held) for name, held in whole.origin.versions)
    older = attrs.evolve(whole, origin=attrs.evolve(whole.origin, versions=versions))
    text = refused(lambda: quanthost.calibrate(net, older))
    assert text.startswith("statistics of another torch: torch 0.0\n  needed: torch ")
    assert "statistics of another torch" in refused(lambda: older.merge(whole))


def test_what_does_not_go_together(net: PreparedModel, whole: Statistics) -> None:
    """A shard or the same data twice, other cuts, stopped runs, missing shards, nothing at all."""
    one, two, three = shares(net, 3)
    assert refused(lambda: one.merge(two).merge(one)).startswith("the shard 1/3 twice")
    assert refused(lambda: whole.merge(whole)).startswith("the same 9 batches twice")
    assert refused(lambda: one.merge(whole)).startswith("parts of 3 shards and data without shards")
    assert refused(lambda: one.merge(shares(net, 2)[1])).startswith("parts of 2 shards and 3 shards")
    stopped = attrs.evolve(two, complete=False)
    assert refused(lambda: one.merge(stopped)).startswith("statistics of a calibration that was stopped")
    assert "stopped after 3 batches" in refused(lambda: quanthost.calibrate(net, stopped))
    assert refused(lambda: quanthost.calibrate(net, one.merge(three))).startswith(
        "statistics without the shards 2/3"
    )
    assert refused(lambda: merge_statistics([])).startswith("no statistics to merge")
    empty = quanthost.collect_statistics(net, [], shard="1/1")
    assert refused(lambda: quanthost.calibrate(net, empty)).startswith("statistics of no batch")


def test_other_data_adds_up(net: PreparedModel, whole: Statistics) -> None:
    """Two data sets without a cut are one in any order."""
    first, second = (quanthost.collect_statistics(net, part) for part in (DATA[:4], DATA[4:]))
    assert first.merge(second).to_bytes() == second.merge(first).to_bytes()
    assert first.merge(second).tensors == whole.tensors
    assert first.merge(second).data_digest == whole.data_digest


@pytest.mark.parametrize("text", ["3", "3-16", "a/b", "", "3/16/2"])
def test_shards_that_are_none(net: PreparedModel, text: str) -> None:
    """The form is named."""
    assert "needed: number/count" in refused(
        lambda: quanthost.collect_statistics(net, DATA, shard=text), RequestError
    )


@pytest.mark.parametrize(("number", "count"), [(0, 2), (3, 2), (1, 0)])
def test_shards_out_of_range(number: int, count: int) -> None:
    """They count from one."""
    assert "a number from 1 to the count" in refused(lambda: Shard(number, count), ValueCheckError)


def damaged(content: bytes) -> Iterator[tuple[str, bytes, str]]:
    yield "empty", b"", "a file that is damaged or holds no statistics"
    yield "cut", content[: len(content) // 2], "a file that is damaged or holds no statistics"
    yield (
        "other tensors",
        safetensors.torch.save({"x": torch.ones(1)}),
        "a file that is damaged or holds no statis",
    )
    flipped = bytearray(content)
    flipped[-3] ^= 1
    yield "flipped bit", bytes(flipped), "statistics whose numbers changed after they were saved"
    yield "format", content.replace(b'\\"format\\": 2', b'\\"format\\": 9'), "statistics of the format 9"


def test_damaged_files_are_refused(whole: Statistics, tmp_path: Path) -> None:
    """Each with what is wrong, and nothing of it is used."""
    path = tmp_path / "broken.safetensors"
    for name, content, message in damaged(whole.to_bytes()):
        path.write_bytes(content)
        assert refused(lambda: Statistics.load(path)).startswith(message), name
    assert refused(lambda: Statistics.load(tmp_path / "none")).startswith("no file ")
    assert refused(lambda: whole.save(tmp_path / "none" / "x")).startswith("cannot write ")
