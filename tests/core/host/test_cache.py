"""The cache: what is found again, what is not, and that nobody can break it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_nets import BACKEND, Net, images

import quanthost
from quanthost import Override
from quanthost.arith.sketch import RangeSketch
from quanthost.errors import RequestError
from quanthost.stages.lowering.program import LoweredProgram

DATA = images(6)


class Notes:
    """A progress that keeps what was noted."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str) -> Any:
        import contextlib

        return contextlib.nullcontext()

    def batch(self, done: int, total: int | None) -> None:
        return

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each tensor that is observed."""
    calls: list[int] = []
    update = RangeSketch.update

    def counting(sketch: RangeSketch, tensor: torch.Tensor) -> None:
        calls.append(1)
        update(sketch, tensor)

    monkeypatch.setattr(RangeSketch, "update", counting)
    return calls


def made(cache: Any, data: Any = DATA, **options: Any) -> tuple[LoweredProgram, list[str]]:
    notes = Notes()
    program = quanthost.quantize(
        Net(), images(1)[0], BACKEND, calibration=data, cache=cache, progress=notes, **options
    )
    return program, notes.said


def test_the_second_time_is_the_same_program(tmp_path: Path, observed: list[int]) -> None:
    """Nothing is observed, converted or lowered again."""
    first, said = made(tmp_path)
    assert said == []
    assert observed
    observed.clear()
    second, said = made(tmp_path, list(reversed(DATA)))
    assert said == ["6 batches from the cache", "from the cache"]
    assert observed == []
    assert (second.buffer, second.record) == (first.buffer, first.record)
    assert torch.equal(second.run(DATA[0]), first.run(DATA[0]))


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"overrides": (Override(operator="aten.linear", keep_float=True),)}, ["6 batches from the cache"]),
        ({"io": "int8"}, ["6 batches from the cache"]),
        ({"representation": "integer"}, ["6 batches from the cache"]),
        ({"recipe": "int8_static_per_tensor"}, ["6 batches from the cache"]),
        ({"data": DATA[:5]}, []),
    ],
    ids=["override", "io", "representation", "recipe", "data"],
)
def test_what_differs_is_made_anew(tmp_path: Path, change: dict[str, Any], note: list[str]) -> None:
    """And equals what is made without a cache; data is calibrated again only where it is other data."""
    made(tmp_path)
    program, said = made(tmp_path, **change)
    assert said == note
    assert program.record == made(False, **change)[0].record


def test_more_tensors_of_the_same_data(tmp_path: Path, observed: list[int]) -> None:
    """An override that goes away needs what it kept in float; after that both are known."""
    rule = {"overrides": (Override(operator="aten.linear", keep_float=True),)}
    made(tmp_path, **rule)
    observed.clear()
    assert made(tmp_path)[1] == []
    assert observed
    observed.clear()
    assert made(tmp_path, representation="reference")[1] == ["6 batches from the cache"]
    assert made(tmp_path, representation="reference", **rule)[1] == ["6 batches from the cache"]
    assert observed == []


def test_a_generator_is_read_once(tmp_path: Path) -> None:
    """It cannot be looked up before it is observed; the program is found all the same."""
    first, _ = made(tmp_path, iter(DATA))
    second, said = made(tmp_path, iter(DATA))
    assert said == ["from the cache"]
    assert first.buffer == second.buffer


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    """The digest of the model covers them."""
    made(tmp_path)
    model = Net()
    with torch.no_grad():
        model.head.weight.add_(0.5)
    notes = Notes()
    quanthost.quantize(model, images(1)[0], BACKEND, calibration=DATA, cache=tmp_path, progress=notes)
    assert notes.said == []


def test_other_code_makes_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that is being written keeps its version, so its files count."""
    made(tmp_path)
    from quanthost.host import cache

    before = cache.code_digest
    monkeypatch.setattr(cache, "code_digest", lambda name: before(name) + "changed" * ("xnnpack" in name))
    assert made(tmp_path)[1] == ["6 batches from the cache"]


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_broken_entries_count_as_none(tmp_path: Path) -> None:
    """They are replaced."""
    program, _ = made(tmp_path)
    for path in entries(tmp_path):
        path.write_bytes(path.read_bytes()[:50])
    again, said = made(tmp_path)
    assert said == []
    assert again.buffer == program.buffer
    assert made(tmp_path)[1] == ["6 batches from the cache", "from the cache"]


def test_the_variable_turns_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``False`` turns it off again, and without either nothing is kept."""
    monkeypatch.delenv("QUANTHOST_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    made(None)
    monkeypatch.setenv("QUANTHOST_CACHE", str(tmp_path / "named"))
    made(False)
    assert entries(tmp_path) == []
    made(None)
    assert len(entries(tmp_path / "named")) == 3
    assert made(True)[1] == ["6 batches from the cache", "from the cache"]


def quietly(caught: list[warnings.WarningMessage]) -> list[str]:
    """What was said of the cache."""
    return [
        str(w.message).partition(": ")[2] for w in caught if "is not written to any more" in str(w.message)
    ]


def spoiled(tmp_path: Path, name: str) -> Path:
    """A folder for a cache where something that should be a folder is none."""
    if name == "cache":
        (tmp_path / "file").write_text("")
        return tmp_path / "file" / "below"
    (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize("name", ["cache", "statistics", "programs"])
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, name: str) -> None:
    """Costs one warning that says why; the program is made all the same, and what is there is still found."""
    folder = spoiled(tmp_path, name)
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            program, said = made(folder)
        assert len(quietly(caught)) == 1
        assert re.search("Not a directory|File exists", quietly(caught)[0])
        assert program.buffer == made(False)[0].buffer
        assert said == []


def test_a_size_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused before anything is done, with the variable's name."""
    monkeypatch.setenv("QUANTHOST_CACHE_SIZE", "much")
    with pytest.raises(RequestError, match=r"the size 'much'\n.*\n.*where:  QUANTHOST_CACHE_SIZE"):
        made(tmp_path)


def test_it_keeps_to_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used last is found again; what was used before that, though made later, had to go."""
    made(tmp_path)
    size = sum(path.stat().st_size for path in entries(tmp_path))
    old = time.time() - 1000
    for path in entries(tmp_path):
        os.utime(path, (old, old))
    made(tmp_path, data=DATA[:5])
    for path in entries(tmp_path):
        if path.stat().st_mtime > old + 1:
            os.utime(path, (old + 500, old + 500))
    assert made(tmp_path)[1] == ["6 batches from the cache", "from the cache"]
    monkeypatch.setenv("QUANTHOST_CACHE_SIZE", str(2 * size + size // 2))
    made(tmp_path, data=DATA[:4])
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 2 * size + size // 2
    assert made(tmp_path, data=DATA[:4])[1] == ["4 batches from the cache", "from the cache"]
    assert made(tmp_path)[1] == ["6 batches from the cache", "from the cache"]
    assert made(tmp_path, data=DATA[:5])[1] == []


KILLED = """
    import random, resource, sys, tempfile, time, warnings
    from pathlib import Path
    import torch, quanthost
    from flow_nets import BACKEND, Net, images
    from killing import dies_somewhere, ended, forked
    from quanthost.stages.calibrating import calibrate

    calibrate._SECONDS = 0.0
    base = Path(sys.argv[1])

    def made(folder):
        return quanthost.quantize(Net(), images(1)[0], BACKEND, calibration=images(6), cache=folder).buffer

    made(base / "first")
    begin = time.monotonic()
    wanted = made(base / "alone")
    seconds = time.monotonic() - begin
    where = random.Random(0)

    def work(folder):
        assert made(folder) == wanted, "another program"

    for round in range(6):
        folder = base / f"shared{round}"
        killed = [
            dies_somewhere(lambda: work(folder), where, steps=60, seconds=1.2 * seconds) for _ in range(2)
        ]
        print("killed", [ended(child) for child in killed], len(list(folder.rglob("*"))))
        after = [forked(lambda: work(folder)) for _ in range(2)]
        print("after", [ended(child) for child in after])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            print("found", ended(forked(lambda: work(folder))))

    def no_room(event, args):
        if event.startswith("tempfile.mk"):
            size = 300 if "full" in args[0] else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def full():
        sys.addaudithook(no_room)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work(base / "full")
        said = [str(w.message) for w in caught if "cache" in str(w.message)]
        assert len(said) == 1 and said[0].endswith(": File too large"), said
        assert not [path for path in (base / "full").rglob("*") if path.is_file()], "half an entry"

    print("full", ended(forked(full)))
"""


def test_processes_that_share_it_and_are_killed(tmp_path: Path) -> None:
    """Whatever two of them leave serves the next ones, which get the program that there is without a cache.

    And one that runs out of room makes the same program without it, says so once, and leaves no half entry.
    """
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    here = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=False, timeout=300,
        env={"PYTHONPATH": here, "PATH": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line for line in lines if line.startswith("after")] == ["after [0, 0]"] * 6, done.stderr
    assert [line for line in lines if line.startswith("found")] == ["found 0"] * 6, done.stderr
    assert lines[-1] == "full 0", done.stderr
    assert sum(line.count("-9") for line in lines) >= 6
