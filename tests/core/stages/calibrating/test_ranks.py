"""Calibration in several processes: under ``torchrun`` itself, and what becomes of those that are left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from flow_nets import images, prepared

import quanthost

HERE = str(Path(__file__).parents[2])
SHARED = """
    import os, signal, sys, time
    from pathlib import Path
    import torch, quanthost
    from flow_nets import images, prepared

    def outcome(folder, rank, mode, work):
        begin = time.monotonic()
        try:
            content = work().to_bytes()
        except quanthost.QuanthostError as error:
            content = str(error).encode()
        seconds = time.monotonic() - begin
        (folder / f"{mode}{rank}").write_bytes(content)
        (folder / f"{mode}{rank}.seconds").write_text(str(seconds))

    def killed_after(data, count):
        for number, batch in enumerate(data):
            if number == count:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch
"""
RANK = """
    rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
    ready, data = prepared(), images(9)
    spoilt = [data[0], data[1] * float("nan"), *data[2:]]

    def calibrated(batches):
        return quanthost.calibrate(ready, batches).statistics

    outcome(folder, rank, "well", lambda: calibrated(data))
    outcome(folder, rank, "one", lambda: calibrated(data[:1]))
    outcome(folder, rank, "nan", lambda: calibrated(spoilt))
    outcome(folder, rank, "twice", lambda: quanthost.collect_statistics(ready, data, shard="1/2"))
    (folder / f"loaded{rank}").write_text(str("executorch" in sys.modules))
    outcome(folder, rank, "dies", lambda: calibrated(killed_after(data, 4) if rank else data))
"""
LEFT = """
    from killing import ended, forked

    folder, ready, data = Path(sys.argv[1]), prepared(), images(9)

    def work(rank):
        os.environ["RANK"] = str(rank)
        batches = killed_after(data, 4) if rank else data
        outcome(folder, rank, "dies", lambda: quanthost.calibrate(ready, batches).statistics)

    print([ended(child) for child in [forked(lambda: work(rank)) for rank in range(2)]])
"""


def script(folder: Path, *parts: str) -> Path:
    path = folder / "rank.py"
    path.write_text("".join(map(textwrap.dedent, parts)))
    return path


def environment(**more: str) -> dict[str, str]:
    return {"PYTHONPATH": HERE, "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, float]:
    """What two ranks of ``torchrun`` wrote, how the launcher ended, and after how many seconds."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    begin = time.monotonic()
    done = subprocess.run(
        [*command, script(folder, SHARED, RANK), folder], env=environment(), check=False, timeout=300,
        capture_output=True,
    )  # fmt: skip
    return folder, done.returncode, time.monotonic() - begin


Launched = tuple[Path, int, float]


def written(launched: Launched, mode: str) -> list[bytes]:
    return [(launched[0] / f"{mode}{rank}").read_bytes() for rank in range(2)]


@pytest.mark.parametrize(("mode", "count"), [("well", 9), ("one", 1)])
def test_ranks_have_the_bits_of_one_process(launched: Launched, mode: str, count: int) -> None:
    """Of nine batches one rank has five and the other four, of one batch one has none: all the same."""
    alone = quanthost.calibrate(prepared(), images(count)).statistics
    assert alone is not None
    assert written(launched, mode) == [alone.to_bytes()] * 2


def test_a_rank_that_fails_stops_the_others(launched: Launched) -> None:
    """They say which, and what it said; the group can be used again."""
    zero, one = map(bytes.decode, written(launched, "nan"))
    assert one.startswith("NaN in the tensor 'image' of batch 2")
    assert zero.startswith("rank 1 failed: NaN in the tensor 'image' of batch 2")


def test_a_share_that_two_ranks_have_is_refused(launched: Launched) -> None:
    """By both."""
    assert all(text.startswith(b"the shard 1/2 twice") for text in written(launched, "twice"))


def test_ranks_load_no_executorch(launched: Launched) -> None:
    """A rank calibrates and doesn't lower."""
    assert written(launched, "loaded") == [b"False"] * 2


def test_the_launcher_ends_when_a_rank_dies(launched: Launched) -> None:
    """In bounded time, with an error; no rank takes its share for the whole."""
    folder, code, seconds = launched
    assert code != 0
    assert seconds < 200
    assert not (folder / "dies1").exists()
    left = folder / "dies0"
    assert not left.exists() or left.read_text().startswith("a rank does not answer rank 0: ")


def test_a_rank_that_dies_stops_the_others(tmp_path: Path) -> None:
    """In bounded time and with a clear error, also where no launcher ends them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, script(tmp_path, SHARED, LEFT), tmp_path], check=True, timeout=120, text=True,
        capture_output=True,
        env=environment(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)),
    )  # fmt: skip
    assert done.stdout == "[0, -9]\n"
    assert (tmp_path / "dies0").read_text().startswith("a rank does not answer rank 0: ")
    assert float((tmp_path / "dies0.seconds").read_text()) < 60
    assert not (tmp_path / "dies1").exists()


def test_a_lone_rank_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torchrun`` with one process calibrates as without."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert quanthost.stages.calibrating.ranks.is_distributed() is False
    assert not torch.distributed.is_initialized()
