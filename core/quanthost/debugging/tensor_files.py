"""Tensors by name in files: ``.npz`` (numpy) and ``.safetensors``, read; ``.npz`` written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from quanthost.errors import InputError
from quanthost.stages.whole_files import write_whole

__all__ = ["SUFFIXES", "read_tensors", "write_npz"]


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
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
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
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    write_whole(path, stream.getvalue())


def _read_npz(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as stream:
        # in the file's order
        return {name: tensors[name] for name in stream.offset_keys()}


_READERS: dict[str, Callable[[Path], dict[str, torch.Tensor]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}
SUFFIXES = tuple(_READERS)
