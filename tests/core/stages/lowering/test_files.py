"""A program's two files: written both or not at all, and read together."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from quanthost.errors import ProgramError
from quanthost.stages.lowering.files import program_digest, read_program, record_path, write_program
from quanthost.values import ProgramRecord

BUFFER = b"a program"
RECORD = ProgramRecord(
    program_digest=program_digest(BUFFER), backends=("npu",), recipe="int8_static", representation="qdq",
    plugins=(), versions=(("torch", "2"),), overrides=(), options=(), qat=False, model="Net",
    model_digest="m", data_digest="d", signature="{}", outputs=(), quantized_inputs=(), quantized_outputs=(),
    pieces=(), outside=(), runtime_modules=(), decisions=(),
)  # fmt: skip


def test_both_come_back(tmp_path: Path) -> None:
    """The bytes and an equal record; the record's name follows from the program's."""
    target = tmp_path / "net.pte"
    write_program(target, BUFFER, RECORD)

    assert read_program(target) == (BUFFER, RECORD)
    assert record_path(target) == tmp_path / "net.json"


def test_names_that_would_collide(tmp_path: Path) -> None:
    """A program is not saved as its record."""
    with pytest.raises(ProgramError, match=r"a program named net\.json"):
        write_program(tmp_path / "net.json", BUFFER, RECORD)


def test_a_failure_leaves_the_earlier_files(tmp_path: Path) -> None:
    """Where the program cannot be moved to its place, the record is the earlier one again."""
    target = tmp_path / "net.pte"
    target.mkdir()
    record_path(target).write_text("earlier")
    with pytest.raises(ProgramError, match="cannot write"):
        write_program(target, BUFFER, RECORD)

    assert record_path(target).read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"net.pte", "net.json"}


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    """Another program's record, one of another format, text that is no JSON, and a missing one."""
    target = tmp_path / "net.pte"
    write_program(target, BUFFER, attrs.evolve(RECORD, program_digest="sha256:0"))
    with pytest.raises(ProgramError, match="belongs to another program"):
        read_program(target)
    beside = record_path(target)
    beside.write_text(json.dumps({"format": 999}))
    with pytest.raises(ProgramError, match="the format 999"):
        read_program(target)
    beside.write_text("{")
    with pytest.raises(ProgramError, match="is not JSON"):
        read_program(target)
    beside.unlink()
    with pytest.raises(ProgramError, match="no file"):
        read_program(target)
