"""The cache: what is found again, what is not, and that nobody can break it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_nets import BACKEND, Net, images

import quanthost
from quanthost import Override
from quanthost.arith.sketch import RangeSketch
from quanthost.errors import RequestError
from quanthost.host import pipeline
from quanthost.stages.program import LoweredProgram

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

    before = cache._code_digest
    monkeypatch.setattr(cache, "_code_digest", lambda name: before(name) + "changed" * ("xnnpack" in name))
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


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Is refused before anything is done."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"the cache .*below: Not a directory"):
        made(tmp_path / "file" / "below")


def test_without_room_the_program_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the user is told."""
    made(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("quanthost.stages.files.os.replace", full)
    _, said = made(tmp_path, io="int8")
    assert said[0] == "6 batches from the cache"
    assert said[1].startswith("not kept in the cache: cannot write ")


KILLED = """
    import os, signal, sys, threading
    import torch, quanthost
    from flow_nets import BACKEND, Net, images
    from quanthost.stages import calibrate

    calibrate._SECONDS = 0.0
    quanthost.prepare(quanthost.capture(Net(), images(1)[0]), BACKEND)
    threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    quanthost.quantize(Net(), images(1)[0], BACKEND, calibration=images(6), cache=sys.argv[1])
    os._exit(0)
"""


def started(tmp_path: Path, folder: Path, moment: float) -> subprocess.Popen[bytes]:
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    return subprocess.Popen(
        [sys.executable, script, folder, str(moment)], stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""},
    )  # fmt: skip


def moments() -> Iterator[float]:
    """From the first write to after the last."""
    yield from (0.15, 0.6)


def test_processes_that_share_it_and_are_killed(tmp_path: Path) -> None:
    """Whatever they leave behind serves, and gives the program that there is without a cache."""
    folder = tmp_path / "cache"
    for moment in moments():
        running = [started(tmp_path, folder, moment), started(tmp_path, folder, moment * 1.1)]
        for process in running:
            process.wait(timeout=120)
    running = [started(tmp_path, folder, 100.0) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    program, said = made(folder)
    assert said == ["6 batches from the cache", "from the cache"]
    assert program.buffer == made(False)[0].buffer
    assert pipeline.Cache.of(folder) is not None
