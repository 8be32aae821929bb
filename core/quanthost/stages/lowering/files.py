"""Reads and writes a program on disk: the ``.pte`` and its record beside it, both or neither.

The module loads no torch, so that a program can be inspected without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from quanthost.errors import ProgramError
from quanthost.stages.whole_files import staged
from quanthost.values import ProgramRecord, from_data, to_json
from quanthost.values.program_record import FORMAT

__all__ = ["program_digest", "read_program", "record_path", "write_program"]


def write_program(target: Path, buffer: bytes, record: ProgramRecord) -> None:
    """Write both files; if that fails, the earlier files stay unchanged.

    Raises:
        ProgramError: the folder does not exist or is not writable, the disk is full, or the name ends in
            ``.json``.
    """
    beside = record_path(target)
    if beside == target:
        raise ProgramError(
            f"a program named {target.name}", needed="another suffix: .json is the record's",
            where=str(target.parent), value=target,
            remedy=f"save it as {target.with_suffix('.pte').name}",
        )  # fmt: skip
    text = to_json(record, indent=1).encode()
    try:
        with (
            staged(beside, text) as new_record,
            staged(target, buffer) as new_program,
            _restored_on_failure(beside),
        ):
            os.replace(new_record, beside)
            os.replace(new_program, target)
    except OSError as error:
        raise ProgramError(
            f"cannot write {target}: {error.strerror or error}",
            needed="a folder that exists and is writable, on a disk with room", where=str(target.parent),
            remedy="create the folder, free space on the disk, or choose another path", value=target,
        ) from error  # fmt: skip


def record_path(program: Path) -> Path:
    """The path of a program's record."""
    return program.with_suffix(".json")


@contextlib.contextmanager
def _restored_on_failure(target: Path) -> Iterator[None]:
    """Restore the earlier ``target`` if the block fails after it was replaced."""
    with contextlib.ExitStack() as stack:
        earlier = stack.enter_context(staged(target, target.read_bytes())) if target.exists() else None
        try:
            yield
        except BaseException:
            if earlier is not None:
                os.replace(earlier, target)
            else:
                target.unlink(missing_ok=True)
            raise


def read_program(target: Path) -> tuple[bytes, ProgramRecord]:
    """The bytes and the record of a program.

    Raises:
        ProgramError: a file is missing or unreadable, or the two do not belong together.
    """
    beside = record_path(target)
    for file in (target, beside):
        if not file.is_file():
            raise ProgramError(
                f"no file {file}", needed="the .pte and the .json that save() wrote beside it",
                where=str(target.parent), remedy="check the path, and copy both files", value=file,
            )  # fmt: skip
    buffer = target.read_bytes()
    record = _read_record(beside)
    if record.program_digest != program_digest(buffer):
        raise ProgramError(
            f"{beside.name} belongs to another program than {target.name}",
            needed=f"a program with the digest {record.program_digest}", where=str(target.parent),
            remedy="copy both files of one save() again, or lower the model again", value=target,
        )  # fmt: skip
    return buffer, record


def _read_record(file: Path) -> ProgramRecord:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ProgramError(
            f"{file.name} is not JSON: {error}", needed="the whole record that save() wrote",
            where=str(file.parent), remedy="copy it again, or lower the model again", value=file,
        ) from error  # fmt: skip
    written = data.get("format") if isinstance(data, dict) else None
    # before its fields are looked at: those of another format are another's
    if written != FORMAT:
        raise ProgramError(
            f"{file.name} is a record of the format {written!r}", needed=f"the format {FORMAT}",
            where=str(file.parent), value=written,
            remedy="read it with the quanthost that wrote it, or lower the model again with this one",
        )  # fmt: skip
    return from_data(ProgramRecord, data, where=str(file))


def program_digest(buffer: bytes) -> str:
    return "sha256:" + hashlib.sha256(buffer).hexdigest()
