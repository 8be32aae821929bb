"""Statistics as values: one result for every order and split of the data, files, and what is refused."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import safetensors.torch
import torch
from flow_nets import Net, images, prepared, rand, seeded, torch_threads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import quanthost
from quanthost import Override, Statistics
from quanthost.arith.sketch import ChannelRange, RangeSketch
from quanthost.errors import RequestError, StatisticsError, ValueCheckError
from quanthost.graph.operators import draws
from quanthost.stages import collection
from quanthost.stages.records import PreparedModel
from quanthost.stages.sample import Sample
from quanthost.stages.statistics import Shard, merge_statistics

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


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_no_bit(net: PreparedModel, threads: int) -> None:
    """Ranges, digests and sample, of data that a loader writes into one buffer again and again."""
    many = images(40)
    buffer = torch.empty_like(many[0])

    def loader() -> Iterator[torch.Tensor]:
        for image in many:
            yield buffer.copy_(image)

    with torch_threads(1):
        alone = quanthost.collect_statistics(net, many)
    with torch_threads(threads):
        assert quanthost.collect_statistics(net, loader()).to_bytes() == alone.to_bytes()
        parts = [quanthost.collect_statistics(net, many, shard=f"{n}/3") for n in (2, 3, 1)]
    assert merge_statistics(parts).to_bytes() == alone.to_bytes()


def test_large_batches_have_all_threads(
    net: PreparedModel, whole: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, whatever small ones are before and behind."""
    seen: list[tuple[int, bool]] = []
    update = RangeSketch.update

    def noted(sketch: RangeSketch, tensor: torch.Tensor) -> None:
        seen.append((torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        update(sketch, tensor)

    monkeypatch.setattr(RangeSketch, "update", noted)
    dynamic = {"image": {0: torch.export.Dim("images", min=1, max=6000)}}
    captured = quanthost.capture(Net(), (torch.cat(images(2)),), dynamic_shapes=dynamic)
    varied = quanthost.prepare(captured, backend="xnnpack_like")
    small, large = images(31), rand(5462, 3, 8, 8)
    with torch_threads(2):
        found = quanthost.collect_statistics(varied, [*small[:29], large, *small[29:]])
    assert found.batches == 32
    by_all = [each for each in seen if each == (2, True)]
    assert len(by_all) * 32 == len(seen)
    assert set(seen) == {(2, True), (1, False)}
    with torch_threads(2):
        again = quanthost.collect_statistics(varied, [*small[:3], large, *small[3:]])
    assert again.to_bytes() == found.to_bytes()


def test_more_is_sampled_where_counting_is_little() -> None:
    """By the multiplications of the graph for each observed tensor: the sketch of the input shows it."""
    data = [rand(1, 3, 96, 96, seed=seed) for seed in range(3)]
    for channels, wanted in ((8, 1.0), (400, 9 * 4 * 400 * 96**2 / 1024 / 3 / (1 << 14))):
        model = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 1, 3, padding=1)
        )
        ready = prepared(seeded(model), data[0])
        found = quanthost.collect_statistics(ready, data)
        assert len(found.tensors) == 3
        by_hand = RangeSketch()
        for image in data:
            by_hand.update(image, wanted)
        assert found.tensors["input_1"] == by_hand


class Noisy(nn.Module):
    """Adds random numbers, as some augmentations do that were left in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x + torch.rand_like(x))
        return y


def test_random_numbers_are_drawn_in_the_order_of_the_data() -> None:
    """The same seed gives the same statistics with threads; dropout that is off draws none."""
    noisy = prepared(Noisy(), rand(2, 4))
    data = [rand(2, 4, seed=seed) for seed in range(50)]

    def drawn(threads: int) -> bytes:
        with torch_threads(threads):
            torch.manual_seed(0)
            return quanthost.collect_statistics(noisy, data).to_bytes()

    assert drawn(4) == drawn(4) == drawn(1)
    dropout = prepared(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval(), rand(2, 4))
    assert [node for node in dropout.module.graph.nodes if draws(node)] == []
    assert [n.target for n in noisy.module.graph.nodes if draws(n)] == [torch.ops.aten.rand_like.default]


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


class Other(Net):
    """The same graph with other weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.head.weight.add_(0.5)


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
    assert refused(lambda: one.merge(whole)).startswith("parts of 3 shares and data that is not cut")
    assert refused(lambda: one.merge(shares(net, 2)[1])).startswith("parts of 2 shares and 3 shares")
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
    yield "empty", b"", "a file that is damaged or no statistics"
    yield "cut", content[: len(content) // 2], "a file that is damaged or no statistics"
    yield "other tensors", safetensors.torch.save({"x": torch.ones(1)}), "a file that is damaged or no statis"
    flipped = bytearray(content)
    flipped[-3] ^= 1
    yield "flipped bit", bytes(flipped), "statistics whose numbers are not those that were saved"
    yield "format", content.replace(b'\\"format\\": 2', b'\\"format\\": 9'), "statistics of the format 9"


def test_damaged_files_are_refused(whole: Statistics, tmp_path: Path) -> None:
    """Each with what is wrong, and nothing of it is used."""
    path = tmp_path / "broken.safetensors"
    for name, content, message in damaged(whole.to_bytes()):
        path.write_bytes(content)
        assert refused(lambda: Statistics.load(path)).startswith(message), name
    assert refused(lambda: Statistics.load(tmp_path / "none")).startswith("no file ")
    assert refused(lambda: whole.save(tmp_path / "none" / "x")).startswith("cannot write ")


SIZED = st.lists(st.tuples(st.integers(0, 300), st.sampled_from([1, 9_000, 260_000, 600_000, 1_100_000])))
BLANK = torch.zeros(1_100_000)


@given(batches=SIZED, cut=st.integers(0, 20), seed=st.integers(0, 1000))
def test_the_sample_is_a_monoid(batches: list[tuple[int, int]], cut: int, seed: int) -> None:
    """Of any sizes: the least digests up to the limits, whatever came first or was merged first."""
    sizes = dict(batches)
    wanted: list[str] = []
    for number, (digest, size) in enumerate(sorted(sizes.items())):
        if number >= 2 and size + sum(sizes[int(name)] for name in wanted) > 1_000_000:
            break
        wanted.append(f"{digest:03d}")

    shuffled = [*batches, *batches[:5]]
    random.Random(seed).shuffle(shuffled)

    def sample(some: list[tuple[int, int]]) -> Sample:
        made = Sample()
        for digest, _ in some:
            made = made.offered(f"{digest:03d}", [BLANK[: sizes[digest]]])
        return made

    whole = sample(shuffled)
    assert [batch.digest for batch in whole.held] == wanted[:128]
    for merged in (
        sample(shuffled[:cut]).merge(sample(shuffled[cut:])),
        sample(shuffled[cut:]).merge(sample(shuffled[:cut])),
        whole.merge(Sample()).merge(whole),
    ):
        assert [batch.digest for batch in merged.held] == wanted[:128]
        assert merged.cut == whole.cut


def test_the_sample_has_128_batches_at_most() -> None:
    """And tells which was the first too many, also in a file."""
    numbers = list(range(300))
    random.Random(0).shuffle(numbers)
    made = Sample()
    for number in numbers:
        made = made.offered(f"{number:03d}", [torch.full((9,), float(number))])
    assert [batch.digest for batch in made.held] == [f"{number:03d}" for number in range(128)]
    assert made.cut == "128"
    assert [float(batch.leaves[0][0]) for batch in made.held] == [float(number) for number in range(128)]


# stopped, and gone on with ---------------------------------------------------------------------------------


class Stops(Exception):
    """The power went out."""


def stopping(after: int) -> Iterator[torch.Tensor]:
    yield from DATA[:after]
    raise Stops


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch_threads(request.param):
        yield


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shard", [None, "2/2"])
def test_a_stopped_calibration_goes_on(
    net: PreparedModel, whole: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str | None
) -> None:
    """What was seen is not run again, and the end is the same bit for bit."""
    monkeypatch.setattr(collection, "_SECONDS", 0.0)
    path = tmp_path / "half.safetensors"
    runs: list[int] = []
    monkeypatch.setattr(RangeSketch, "update", counted(runs, RangeSketch.update))
    with pytest.raises(Stops):
        quanthost.collect_statistics(net, stopping(5), shard=shard, checkpoint=path)
    half = Statistics.load(path)
    assert not half.complete
    assert half.batches == (5 if shard is None else 2)

    before = len(runs)
    found = quanthost.collect_statistics(net, DATA, shard=shard, checkpoint=path)

    left = 4 if shard is None else 2
    assert (len(runs) - before) * half.batches == before * left
    assert found.to_bytes() == quanthost.collect_statistics(net, DATA, shard=shard).to_bytes()
    assert Statistics.load(path).to_bytes() == found.to_bytes()
    assert shard is not None or found.to_bytes() == whole.to_bytes()


def counted(runs: list[int], call: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*args: Any, **kwargs: Any) -> Any:
        runs.append(1)
        return call(*args, **kwargs)

    return counting


def test_a_checkpoint_of_something_else_is_refused(
    net: PreparedModel, whole: Statistics, tmp_path: Path
) -> None:
    """Other data, less data, another share, another model."""
    path = tmp_path / "c.safetensors"
    whole.save(path)

    def go_on(ready: PreparedModel, data: list[torch.Tensor], shard: str | None = None) -> str:
        return refused(lambda: quanthost.collect_statistics(ready, data, shard=shard, checkpoint=path))

    assert go_on(net, [*DATA[:8], DATA[0]]).startswith(
        "a checkpoint of 9 batches before data that begins with other"
    )
    assert go_on(net, DATA[:3]).startswith("a checkpoint of 9 batches before data that begins with 3 batches")
    assert go_on(net, DATA, "1/2").startswith("a checkpoint of all data\n  needed: one of 1/2")
    assert go_on(prepared(Other()), DATA).startswith("statistics of another model")
    assert path.read_bytes() == whole.to_bytes()
    more = quanthost.collect_statistics(net, [*DATA, rand(1, 3, 8, 8, seed=99)], checkpoint=path)
    assert more.batches == 10


KILLED = """
    import random, sys, time
    from pathlib import Path
    import torch, quanthost
    from flow_nets import images, prepared
    from killing import dies_at_step, dies_in, ended
    from quanthost.stages import collection
    from quanthost.stages.statistics import Statistics

    collection._SECONDS = 0.0
    path = Path(sys.argv[1])
    ready, where = prepared(), random.Random(0)

    def work(at=path):
        quanthost.collect_statistics(ready, images(9), checkpoint=at)

    begin = time.monotonic()
    work(path.with_name("whole"))
    seconds = time.monotonic() - begin
    for turn in range(16):
        if turn % 2:
            child = dies_in(work, where.uniform(0, seconds / 2))
        else:
            child = dies_at_step(work, where.randint(1, 14))
        print(ended(child), Statistics.load(path).batches if path.exists() else 0)
    quanthost.collect_statistics(ready, images(9), checkpoint=path)
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_killed_calibration_goes_on(whole: Statistics, tmp_path: Path, threads: str) -> None:
    """At any moment, also while it writes: there is a whole file or none, no less than before, and the end is
    the same."""
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    path = tmp_path / "c.safetensors"
    done = subprocess.run(
        [sys.executable, script, path], capture_output=True, text=True, check=False, timeout=120,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "", "OMP_NUM_THREADS": threads},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ends = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(ends) == 16
    assert sum(code == -9 for code, _ in ends) >= 8
    reached = [batches for _, batches in ends]
    assert reached == sorted(reached)
    assert len(set(reached)) > 2
    assert path.read_bytes() == whole.to_bytes()
