"""Tensors by name in files: ``.npz`` (numpy) and ``.safetensors``, read; ``.npz`` written."""

from __future__ import annotations

import json
import math
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quanthost.errors import InputError

__all__ = ["SUFFIXES", "read_tensors", "write_npz"]

# https://github.com/huggingface/safetensors#format
_SAFETENSORS_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64,
}  # fmt: skip


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file by name, in the file's order.

    Raises:
        InputError: the file is missing, of another kind, or damaged.
    """
    if not path.is_file():
        raise InputError(
            f"no file {path}", needed="a file with tensors", remedy="correct the path", value=path
        )
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise InputError(
            f"the file {path}", needed=f"one that ends in {' or '.join(SUFFIXES)}", value=path,
            remedy="store the tensors with numpy.savez or safetensors.torch.save_file",
        )  # fmt: skip
    try:
        return reader(path)
    except (OSError, ValueError, LookupError, TypeError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}, which cannot be read: {error}", needed=f"a whole {path.suffix} file of plain numbers",
            remedy="write it again", value=path,
        ) from error  # fmt: skip


def write_npz(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors by name, the file whole or not at all; bfloat16, which numpy lacks, as float32."""
    arrays = {
        name: (tensor.to(torch.float32) if tensor.dtype == torch.bfloat16 else tensor).numpy(force=True)
        for name, tensor in tensors.items()
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **arrays)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _read_npz(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    content = bytearray(path.read_bytes())
    start = 8 + struct.unpack_from("<Q", content)[0]
    header = dict(json.loads(content[8:start].decode()))
    header.pop("__metadata__", None)
    return {name: _tensor(name, entry, content, start) for name, entry in header.items()}


def _tensor(name: str, entry: Mapping[str, Any], content: bytearray, start: int) -> torch.Tensor:
    dtype, shape = _SAFETENSORS_DTYPES[entry["dtype"]], entry["shape"]
    begin, end = entry["data_offsets"]
    count = math.prod(shape)
    fits = end - begin == count * dtype.itemsize and begin >= 0 and start + end <= len(content)
    if not fits or any(size < 0 for size in shape):
        raise ValueError(f"{name} cannot be {shape} of {entry['dtype']} in the bytes {begin} to {end}")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start + begin).reshape(shape).clone()


_READERS: dict[str, Callable[[Path], dict[str, torch.Tensor]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}
SUFFIXES = tuple(_READERS)
