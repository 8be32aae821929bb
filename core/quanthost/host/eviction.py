"""Limits the size of a cache: the entries that were used least recently are removed first."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

from quanthost.errors import RequestError

__all__ = ["VARIABLE", "evict", "size_limit"]

VARIABLE = "QUANTHOST_CACHE_SIZE"
_DEFAULT = "10G"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# seconds after which an unfinished file counts as left behind by a killed process
_ABANDONED = 3600.0


def size_limit() -> int:
    """Bytes that ``QUANTHOST_CACHE_SIZE`` allows: ``"500M"``, in powers of 1024, 10 GiB if it is unset.

    Raises:
        RequestError: it is no size.
    """
    text = os.environ.get(VARIABLE, "").strip()
    size = re.fullmatch(r"(\d+)([KMGT]?)(i?B)?", text if text else _DEFAULT, re.IGNORECASE)
    if size is None:
        raise RequestError(
            f"the size {text!r}", needed="bytes, or a number with K, M, G or T", where=VARIABLE, value=text,
            remedy="write for example 500M, or leave it unset for 10G",
        )  # fmt: skip
    return int(size[1]) * _UNITS[size[2].upper()]


@attrs.define
class _Entry:
    """The files that share a name up to the first dot."""

    files: list[str] = attrs.field(factory=list)
    size: int = 0
    used: float = 0.0


def evict(folders: Iterable[Path], limit: int) -> None:
    """Remove the entries that were used least recently until all take no more than ``limit`` bytes.

    Other processes may read, write and evict at the same time; one that misses an entry creates it again.
    """
    entries = sorted(_entries(folders).values(), key=lambda entry: entry.used)
    total = sum(entry.size for entry in entries)
    for entry in entries:
        if total <= limit:
            return
        for file in entry.files:
            _remove(file)
        total -= entry.size


def _entries(folders: Iterable[Path]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for folder in folders:
        for file in os.scandir(folder):
            # another process may have removed it
            with contextlib.suppress(FileNotFoundError):
                status = file.stat()
                if file.name.startswith("."):
                    if time.time() - status.st_mtime > _ABANDONED:
                        _remove(file.path)
                    continue
                entry = entries.setdefault(os.path.join(folder, file.name.partition(".")[0]), _Entry())
                entry.files.append(file.path)
                entry.size += status.st_size
                entry.used = max(entry.used, status.st_mtime)
    return entries


def _remove(file: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(file)
