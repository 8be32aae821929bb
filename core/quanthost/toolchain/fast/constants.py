"""Constants of programs: delegates read them where they are, and they are copied into the program once."""

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

from quanthost.toolchain.fast.proved import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement, replaced

__all__ = ["detach_parts", "joined", "shared_constants"]

# bytes from which a collection, some tenths of a second, is worth the memory
_LARGE = 32 << 20


def _copied(_: Callable[..., Any], __: type, program: ExportedProgram, ___: object) -> ExportedProgram:
    """What a delegate may change: the graph, and which constants there are, but not their values."""
    held = (*program.state_dict.values(), *program.constants.values())
    memo: dict[int, Any] = {id(value): value for value in held if isinstance(value, torch.Tensor)}
    return copy.deepcopy(program, memo)


REPLACEMENTS = (
    Replacement(
        "executorch.exir.backend.backend_details:BackendDetails.copy_exported_program_for_preprocess",
        _copied, FINGERPRINTS,
    ),
)  # fmt: skip


def shared_constants() -> AbstractContextManager[None]:
    """While entered, in this thread, a delegate gets a copy of its partition that has the same constants."""
    return replaced(*REPLACEMENTS)


def detach_parts(program: Any) -> Callable[[], bytes]:
    """The program's parts, without the program: a function that gives their content, once."""
    parts: Cord = program._pte_data
    return lambda: joined(parts)


def joined(parts: Cord) -> bytes:
    """The content of a serialized program; a large one's parts are given up one by one as they are copied.

    What made the program must be given up by then, or the parts stay.
    """
    if len(parts) < _LARGE:
        return bytes(parts)
    # the graphs that hold the parts hold one another
    gc.collect()
    stream, kept = io.BytesIO(), 0
    left = list(reversed(parts._buffers))
    parts._buffers.clear()
    while left:
        part = left.pop()
        if isinstance(part, bytes):
            stream.write(part)
        else:
            part.write_to_file(stream)
        kept += len(part)
        del part
        if kept >= _LARGE:
            _return_freed()
            kept = 0
    return stream.getvalue()


def _return_freed() -> None:
    """Give the kernel what was freed: glibc keeps blocks up to 32 MiB, most layers' weights."""
    if sys.platform == "linux":
        # musl has none
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
