"""``LoweredProgram``: a program's bytes with the record of how it came to be; saved, loaded and run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import attrs
import torch

from quanthost.errors import ProgramError
from quanthost.graph.leaves import ConstantSpec
from quanthost.graph.outputs import OutputLeaf, assemble
from quanthost.graph.signature import Signature
from quanthost.stages.refine import Refinement
from quanthost.values import Decision, Override, Verdict, from_data, to_json

__all__ = ["LoweredProgram", "PieceRecord", "PluginRecord", "ProgramRecord", "TensorQParams", "load"]

FORMAT = 1


@attrs.frozen(kw_only=True)
class PluginRecord:
    """A plugin that took part: the name it was asked by, and the distribution it came from."""

    name: str
    distribution: str
    version: str


@attrs.frozen(kw_only=True)
class PieceRecord:
    """One delegated piece: the ExecuTorch backend that runs it and how many operators lie in it."""

    delegate: str
    operators: int


@attrs.frozen(kw_only=True)
class TensorQParams:
    """Quantization at the edge of the program: the tensor is float, and quantized next to the edge."""

    name: str
    scale: float
    zero_point: int
    quant_min: int
    quant_max: int


@attrs.frozen(kw_only=True)
class ProgramRecord:
    """All that a run decided; what is written beside the ``.pte``."""

    program_digest: str
    backends: tuple[str, ...]
    recipe: str
    representation: str
    plugins: tuple[PluginRecord, ...]
    versions: tuple[tuple[str, str], ...]
    overrides: tuple[Override, ...]
    options: tuple[tuple[str, str | int | float | bool], ...]
    qat: bool
    model: str
    model_digest: str
    data_digest: str
    signature: str
    outputs: tuple[OutputLeaf, ...]
    quantized_inputs: tuple[TensorQParams, ...]
    quantized_outputs: tuple[TensorQParams, ...]
    pieces: tuple[PieceRecord, ...]
    outside: tuple[str, ...]
    runtime_modules: tuple[str, ...]
    decisions: tuple[Decision, ...]
    refinement: Refinement | None = None
    format: int = FORMAT

    @property
    def delegated_share(self) -> float:
        """Operators inside delegates over all operators of the program, 0 to 1."""
        inside = sum(piece.operators for piece in self.pieces)
        total = inside + len(self.outside)
        return inside / total if total else 0.0


@attrs.define(kw_only=True, eq=False, repr=False)
class LoweredProgram:
    """A program that the ExecuTorch runtime executes."""

    buffer: bytes = attrs.field(on_setattr=attrs.setters.frozen)
    record: ProgramRecord = attrs.field(on_setattr=attrs.setters.frozen)
    _runner: Callable[[list[Any]], list[Any]] | None = None
    _lock: Lock = attrs.field(factory=Lock, init=False)
    _signature: Signature = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._signature = Signature.from_json(self.record.signature)

    def __repr__(self) -> str:
        record = self.record
        counts = Counter(decision.verdict for decision in record.decisions)
        became = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
        return (
            f"<LoweredProgram {record.model} for {' and '.join(record.backends)} ({record.recipe}): "
            f"{became or 'no nodes'}; delegated pieces: {len(record.pieces)}, "
            f"operators outside: {len(record.outside)}; {len(self.buffer) / 1000:.1f} kB>"
        )

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self.record.decisions

    def run(self, *inputs: Any, **kwargs: Any) -> Any:
        """Execute in the ExecuTorch runtime of this machine; the result has the model's structure.

        Calls from several threads are taken one after the other.

        Raises:
            InputError: an input is not what the model was captured with.
            ProgramError: the runtime refused or failed.
        """
        flat = self._signature.flatten(inputs, kwargs)
        with self._lock:
            if self._runner is None:
                from quanthost.toolchain.runtime import Executor

                self._runner = Executor(self.buffer, self.record.runtime_modules)
        taken = [x for x, leaf in zip(flat, self._signature.inputs) if not isinstance(leaf, ConstantSpec)]
        with torch.no_grad():
            outputs = self._runner(taken)
        return self._signature.unflatten(assemble(self.record.outputs, outputs, flat))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the ``.pte`` and ``<name>.json`` beside it; where that fails, both stay as they were.

        Raises:
            ProgramError: the folder does not exist or is not writable, the disk is full, or the name
                ends in ``.json``.
        """
        target = Path(path)
        beside = record_path(target)
        if beside == target:
            raise ProgramError(
                f"a program named {target.name}", needed="a name that leaves .json to the record",
                where=str(target.parent), value=target,
                remedy=f"save it as {target.with_suffix('.pte').name}",
            )  # fmt: skip
        text = to_json(self.record, indent=1).encode()
        try:
            with (
                _staged(beside, text) as record,
                _staged(target, self.buffer) as program,
                _put_back_on_failure(beside),
            ):
                os.replace(record, beside)
                os.replace(program, target)
        except OSError as error:
            raise ProgramError(
                f"cannot write {target}: {error.strerror or error}",
                needed="a folder that exists and is writable, on a disk with room", where=str(target.parent),
                remedy="make the folder or room in it, or choose another path", value=target,
            ) from error  # fmt: skip
        return target


def record_path(program: Path) -> Path:
    """Where the record of a program lies."""
    return program.with_suffix(".json")


@contextlib.contextmanager
def _staged(target: Path, content: bytes) -> Iterator[str]:
    """The content in a temporary file of the same folder; removed unless it was moved away."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def _put_back_on_failure(target: Path) -> Iterator[None]:
    """A file that is moved over ``target`` inside gives way to the earlier one where what follows fails."""
    with contextlib.ExitStack() as stack:
        earlier = stack.enter_context(_staged(target, target.read_bytes())) if target.exists() else None
        try:
            yield
        except BaseException:
            if earlier is not None:
                os.replace(earlier, target)
            else:
                target.unlink(missing_ok=True)
            raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def load(path: str | os.PathLike[str]) -> LoweredProgram:
    """Read a program and its record back.

    Raises:
        ProgramError: a file is missing or cannot be read, or the two do not belong together.
    """
    target = Path(path)
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
    return LoweredProgram(buffer=buffer, record=record)


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
