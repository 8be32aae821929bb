"""Programs on disk and in use: two files or none, what load refuses, and what run hands to the runner."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from flow_nets import rand
from torch import nn

import quanthost
from quanthost.errors import InputError, ProgramError, ValueCheckError
from quanthost.host.loading import load
from quanthost.stages.lowering.files import program_digest, record_path
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.values import (
    Cause,
    Decision,
    DType,
    LeafSource,
    OutputLeaf,
    Override,
    PieceRecord,
    ProgramRecord,
    QSpec,
    Verdict,
)

X = rand(2, 3)


class Several(nn.Module):
    """An input passed through, a result twice, a constant, nested; beside it a number that is fixed."""

    def forward(self, x: torch.Tensor, times: int, y: torch.Tensor) -> dict[str, Any]:
        made = x * times + y
        return {"made": made, "again": (made, [y]), "nothing": None}


def a_record(buffer: bytes, **changes: Any) -> ProgramRecord:
    """The record of a program of ``Several``."""
    captured = quanthost.capture(Several(), (X, 2, X))
    leaf = OutputLeaf(source=LeafSource.PROGRAM, index=0)
    record = ProgramRecord(
        program_digest=program_digest(buffer),
        backends=("one", "two"),
        recipe="int8",
        representation="qdq",
        plugins=(),
        versions=(("torch", "2"),),
        overrides=(Override(operator="aten.mul", activation=QSpec(dtype=DType.INT8)),),
        options=(("level", 1), ("ratio", 1.0), ("fast", True), ("name", "é")),
        qat=False,
        model="Several",
        model_digest=captured.digest,
        data_digest="",
        signature=captured.signature.to_json(),
        outputs=(
            leaf,
            leaf,
            OutputLeaf(source=LeafSource.INPUT, index=2),
            OutputLeaf(source=LeafSource.CONSTANT, value=None),
        ),
        quantized_inputs=(),
        quantized_outputs=(),
        pieces=(),
        outside=(),
        runtime_modules=(),
        decisions=(
            Decision(
                node="mul", operator="aten.mul.Tensor", verdict=Verdict.FLOAT, cause=Cause.NO_ROW,
                reason="no row", delegated=False,
            ),
        ),
    )  # fmt: skip
    return attrs.evolve(record, **changes)


def a_program(buffer: bytes = b"program", **options: Any) -> LoweredProgram:
    return LoweredProgram(buffer=buffer, record=a_record(buffer), **options)


def test_a_program_at_the_prompt_says_what_it_is() -> None:
    """Model, backends, recipe, what became of the nodes, what runs where, and the size."""
    piece = PieceRecord(delegate="XnnpackBackend", operators=3)
    buffer = bytes(1234)
    program = LoweredProgram(
        buffer=buffer, record=a_record(buffer, pieces=(piece,), outside=("aten::mul.out",))
    )
    assert repr(program) == (
        "<LoweredProgram Several for one and two (int8): 1 float; delegated pieces: 1, operators outside: 1; "
        "1.2 kB>"
    )


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, hidden files too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_files_are_written_and_read_back(tmp_path: Path) -> None:
    """Bytes and record are those that were saved; nothing else is left in the folder."""
    program = a_program()
    assert program.save(tmp_path / "net.pte") == tmp_path / "net.pte"
    assert files(tmp_path).keys() == {"net.pte", "net.json"}
    restored = load(str(tmp_path / "net.pte"))
    assert restored.buffer == program.buffer
    assert restored.record == program.record
    assert restored.decisions == program.decisions


def test_saving_again_replaces_both(tmp_path: Path) -> None:
    """The later program takes the place of the earlier."""
    a_program(b"first").save(tmp_path / "net.pte")
    a_program(b"second").save(tmp_path / "net.pte")
    assert load(tmp_path / "net.pte").buffer == b"second"
    assert len(files(tmp_path)) == 2


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    """Temporary files are for their owner alone; what they become is for whom the umask says."""
    before = os.umask(0o027)
    try:
        a_program().save(tmp_path / "net.pte")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    """The folder is not made."""
    with pytest.raises(ProgramError) as caught:
        a_program().save(tmp_path / "none" / "net.pte")
    assert (
        str(caught.value)
        == f"""\
cannot write {tmp_path}/none/net.pte: No such file or directory
  needed: a folder that exists and is writable, on a disk with room
  where:  {tmp_path}/none
  to do:  create the folder, free space on the disk, or choose another path"""
    )
    assert files(tmp_path) == {}


def test_name_of_the_record_is_refused(tmp_path: Path) -> None:
    """``net.json`` would be program and record in one."""
    with pytest.raises(ProgramError) as caught:
        a_program().save(tmp_path / "net.json")
    assert "a program named net.json" in str(caught.value)
    assert "to do:  save it as net.pte" in str(caught.value)
    assert files(tmp_path) == {}


def fail(monkeypatch: pytest.MonkeyPatch, name: str, at: int, error: BaseException) -> None:
    """Let a function of ``os`` fail when it is called for the ``at``-th time."""
    real, calls = getattr(os, name), iter(range(1, 100))

    def sometimes(*args: Any) -> Any:
        if next(calls) == at:
            raise error
        return real(*args)

    monkeypatch.setattr(os, name, sometimes)


FULL = OSError(28, "No space left on device")
FAILURES = [("fsync", 1), ("fsync", 2), ("fsync", 3), ("replace", 1), ("replace", 2), ("chmod", 2)]


@pytest.mark.parametrize(("function", "at"), FAILURES, ids=lambda value: str(value))
def test_a_failure_leaves_earlier_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, at: int
) -> None:
    """Wherever writing fails, the earlier pair can still be loaded."""
    a_program(b"earlier").save(tmp_path / "net.pte")
    before = files(tmp_path)
    fail(monkeypatch, function, at, FULL)
    with pytest.raises(ProgramError, match=r"cannot write .*net\.pte: No space left on device"):
        a_program(b"later").save(tmp_path / "net.pte")
    assert files(tmp_path) == before
    assert load(tmp_path / "net.pte").buffer == b"earlier"


@pytest.mark.parametrize(("function", "at"), [("fsync", 2), ("replace", 1), ("replace", 2)])
def test_a_failure_leaves_no_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, at: int
) -> None:
    """Where there was nothing, there is nothing, no temporary file either."""
    fail(monkeypatch, function, at, FULL)
    with pytest.raises(ProgramError):
        a_program().save(tmp_path / "net.pte")
    assert files(tmp_path) == {}


def test_an_interruption_leaves_earlier_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between the two files is passed on, and half a pair is not left."""
    a_program(b"earlier").save(tmp_path / "net.pte")
    before = files(tmp_path)
    fail(monkeypatch, "replace", 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        a_program(b"later").save(tmp_path / "net.pte")
    assert files(tmp_path) == before


def test_a_folder_in_the_place_of_the_program(tmp_path: Path) -> None:
    """What cannot be replaced is refused, and the record is not left alone."""
    (tmp_path / "net.pte").mkdir()
    with pytest.raises(ProgramError, match="cannot write"):
        a_program().save(tmp_path / "net.pte")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pte"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return a_program().save(tmp_path / "net.pte")


@pytest.mark.parametrize("name", ["net.pte", "net.json"])
def test_a_missing_file_is_refused(saved: Path, name: str) -> None:
    """Either file alone is not a program."""
    (saved.parent / name).unlink()
    with pytest.raises(ProgramError) as caught:
        load(saved)
    assert str(caught.value).startswith(f"no file {saved.parent / name}\n")
    assert "the .pte and the .json that save() wrote beside it" in str(caught.value)


def test_a_pair_that_does_not_match_is_refused(saved: Path) -> None:
    """A record beside another program's bytes would describe the wrong one."""
    saved.write_bytes(b"another")
    with pytest.raises(ProgramError) as caught:
        load(saved)
    assert caught.value.seen == "net.json belongs to another program than net.pte"
    assert program_digest(b"program") in caught.value.needed


@pytest.mark.parametrize("length", [0, 1, 100, -2], ids=str)
def test_a_truncated_record_is_refused(saved: Path, length: int) -> None:
    """A copy that broke off is named as such, not as a decoder's error."""
    beside = record_path(saved)
    beside.write_bytes(beside.read_bytes()[:length])
    with pytest.raises(ProgramError, match=r"^net\.json is not JSON: ") as caught:
        load(saved)
    assert caught.value.remedy == "copy it again, or lower the model again"


def test_bytes_that_are_no_text_are_refused(saved: Path) -> None:
    """A record that another program wrote over."""
    record_path(saved).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProgramError, match=r"^net\.json is not JSON: "):
        load(saved)


@pytest.mark.parametrize("number", [2, 0, "1", None], ids=repr)
def test_another_format_is_refused(saved: Path, number: Any) -> None:
    """Before its fields, which may have other names and meanings."""
    beside = record_path(saved)
    data = json.loads(beside.read_text(encoding="utf-8"))
    data.update(format=number, unheard_of=1)
    beside.write_text(json.dumps(data))
    with pytest.raises(ProgramError) as caught:
        load(saved)
    assert (
        str(caught.value)
        == f"""\
net.json is a record of the format {number!r}
  needed: the format 1
  where:  {saved.parent}
  to do:  read it with the quanthost that wrote it, or lower the model again with this one"""
    )


@pytest.mark.parametrize("text", ["[]", "1", "null", '{"format": 1}', "{}"])
def test_json_of_something_else_is_refused(saved: Path, text: str) -> None:
    """A document that is no record."""
    record_path(saved).write_text(text)
    with pytest.raises(
        (ProgramError, ValueCheckError), match=r"record of the format|ProgramRecord that does not fit"
    ):
        load(saved)


def test_a_field_that_does_not_fit_is_named(saved: Path) -> None:
    """The message says which field of which file."""
    beside = record_path(saved)
    data = json.loads(beside.read_text(encoding="utf-8"))
    data["qat"] = "no"
    beside.write_text(json.dumps(data))
    with pytest.raises(ValueCheckError, match="qat") as caught:
        load(saved)
    assert caught.value.where == str(beside)


def test_the_record_is_readable_text(saved: Path) -> None:
    """Names of any alphabet are written as they are, and each value keeps its type."""
    text = record_path(saved).read_text(encoding="utf-8")
    assert '"é"' in text
    restored = load(saved).record.options
    assert [type(value) for _, value in restored] == [int, float, bool, str]


class Runner:
    """Stands for the runtime: adds one to its first tensor, and keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[list[Any]] = []

    def __call__(self, inputs: list[Any]) -> list[Any]:
        self.given.append(inputs)
        return [inputs[0] + 1]


def test_run_takes_tensors_alone_and_puts_the_structure_together() -> None:
    """The fixed number is checked and not handed on; passed-through and doubled leaves are put back."""
    runner = Runner()
    y = rand(2, 3, seed=5)
    result = a_program(runner=runner).run(X, 2, y)
    assert [len(given) for given in runner.given] == [2]
    assert runner.given[0][0] is X
    assert runner.given[0][1] is y
    made, (again, (passed,)), nothing = result["made"], result["again"], result["nothing"]
    assert torch.equal(made, X + 1)
    assert again is made
    assert passed is y
    assert nothing is None


def test_run_refuses_other_inputs() -> None:
    """The captured signature is checked before the runner is called."""
    runner = Runner()
    program = a_program(runner=runner)
    with pytest.raises(InputError, match="needed: 2, which tracing made part of the program"):
        program.run(X, 3, X)
    with pytest.raises(InputError, match=r"float32\[2, 4\]"):
        program.run(X, 2, rand(2, 4))
    assert runner.given == []


def test_run_leaves_no_graph_of_autograd() -> None:
    """Inputs that require gradients give results that do not."""
    result = a_program(runner=Runner()).run(X.clone().requires_grad_(), 2, X)
    assert not result["made"].requires_grad


def test_a_program_cannot_be_changed() -> None:
    """Bytes and record belong together."""
    program = a_program()
    with pytest.raises(attrs.exceptions.FrozenAttributeError):
        program.buffer = b""
    with pytest.raises(attrs.exceptions.FrozenAttributeError):
        program.record = a_record(b"")


@pytest.mark.parametrize(
    ("pieces", "outside", "share"),
    [((), (), 0.0), ((3, 5), (), 1.0), ((3,), ("a",), 0.75), ((), ("a", "b"), 0.0)],
)
def test_share_of_delegated_operators(
    pieces: tuple[int, ...], outside: tuple[str, ...], share: float
) -> None:
    """Operators inside over all."""
    records = tuple(PieceRecord(delegate="D", operators=count) for count in pieces)
    assert a_record(b"", pieces=records, outside=outside).delegated_share == share
