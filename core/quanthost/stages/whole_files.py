"""Writes files completely or not at all, also when interrupted or when another process writes them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["staged", "write_whole"]


def write_whole(target: Path, content: bytes) -> None:
    """Write a file completely, or leave the earlier one unchanged.

    Raises:
        OSError: the folder does not exist or is not writable, or the disk is full.
    """
    with staged(target, content) as temporary:
        os.replace(temporary, target)


@contextlib.contextmanager
def staged(target: Path, content: bytes) -> Iterator[str]:
    """The path of a temporary file in the same folder with this content; removed on exit unless moved."""
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


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
