"""Constants of programs: delegates share them instead of copying, and serialization copies them once."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import io
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from executorch.exir._serialize._cord import Cord
from torch.export import ExportedProgram

from quanthost.toolchain.fast.accepted_code import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement, replace_all

__all__ = ["detach_parts", "join_parts", "shared_constants"]

# from this many bytes on, the memory is worth a collection, which takes some tenths of a second
_LARGE = 32 << 20


def _share_tensors(_: Callable[..., Any], __: type, program: ExportedProgram, ___: object) -> ExportedProgram:
    """Copy what a delegate may change: the graph and the set of constants, but not their values."""
    tensors = (*program.state_dict.values(), *program.constants.values())
    memo: dict[int, Any] = {id(value): value for value in tensors if isinstance(value, torch.Tensor)}
    return copy.deepcopy(program, memo)


REPLACEMENTS = (
    Replacement(
        "executorch.exir.backend.backend_details:BackendDetails.copy_exported_program_for_preprocess",
        _share_tensors, FINGERPRINTS,
    ),
)  # fmt: skip


def shared_constants() -> AbstractContextManager[None]:
    """While entered, in this thread, the copy of a partition that a delegate gets shares its constants."""
    return replace_all(*REPLACEMENTS)


def detach_parts(program: Any) -> Callable[[], bytes]:
    """Take the parts from a program; return a function that joins their content, once."""
    parts: Cord = program._pte_data
    return lambda: join_parts(parts)


def join_parts(parts: Cord) -> bytes:
    """The content of a serialized program; the parts of a large one are freed one by one as they are copied.

    They are freed only if nothing else refers to the program.
    """
    if len(parts) < _LARGE:
        return bytes(parts)
    # the graphs that refer to the parts are in reference cycles
    gc.collect()
    stream, pending = io.BytesIO(), 0
    remaining = list(reversed(parts._buffers))
    parts._buffers.clear()
    while remaining:
        part = remaining.pop()
        if isinstance(part, bytes):
            stream.write(part)
        else:
            part.write_to_file(stream)
        pending += len(part)
        del part
        if pending >= _LARGE:
            _trim_heap()
            pending = 0
    return stream.getvalue()


def _trim_heap() -> None:
    """Return freed memory to the kernel: glibc keeps blocks up to 32 MiB, the size of most weights."""
    if sys.platform == "linux":
        # musl has none
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
