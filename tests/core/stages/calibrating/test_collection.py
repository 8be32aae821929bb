"""One pass over the data: threads change no bit, what is sampled, and how a pass that was stopped goes on."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_nets import Net, Other, images, prepared, rand, seeded, torch_threads
from torch import nn

import quanthost
from quanthost import Statistics
from quanthost.arith.sketch import RangeSketch
from quanthost.errors import InputError, StatisticsError
from quanthost.graph.operators import draws
from quanthost.stages.calibrating import collection
from quanthost.stages.calibrating.statistics import merge_statistics
from quanthost.stages.records import PreparedModel

DATA = images(9)


@pytest.fixture(scope="module")
def net() -> PreparedModel:
    return prepared()


@pytest.fixture(scope="module")
def whole(net: PreparedModel) -> Statistics:
    return quanthost.collect_statistics(net, DATA)


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
    monkeypatch.setattr(collection, "_CHECKPOINT_SECONDS", 0.0)
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
        with pytest.raises(StatisticsError) as caught:
            quanthost.collect_statistics(ready, data, shard=shard, checkpoint=path)
        return str(caught.value)

    assert go_on(net, [*DATA[:8], DATA[0]]).startswith(
        "a checkpoint of 9 batches, and data that begins with other"
    )
    assert go_on(net, DATA[:3]).startswith("a checkpoint of 9 batches, and data that begins with 3 batches")
    assert go_on(net, DATA, "1/2").startswith("a checkpoint of all data\n  needed: a checkpoint of 1/2")
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
    from quanthost.stages.calibrating import collection
    from quanthost.stages.calibrating.statistics import Statistics

    collection._CHECKPOINT_SECONDS = 0.0
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
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "", "OMP_NUM_THREADS": threads},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ends = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(ends) == 16
    assert sum(code == -9 for code, _ in ends) >= 8
    reached = [batches for _, batches in ends]
    assert reached == sorted(reached)
    assert len(set(reached)) > 2
    assert path.read_bytes() == whole.to_bytes()


def test_one_tensor_as_data(net: PreparedModel) -> None:
    """Its rows are no batches: it is to be wrapped, or split."""
    with pytest.raises(InputError, match=r"one tensor as data(.*\n)*.*wrap the tensor in a list"):
        quanthost.calibrate(net, images(1)[0])
