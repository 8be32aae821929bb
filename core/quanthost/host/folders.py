"""The user's cache folder, and digests of code, which become part of the names of cache entries."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

__all__ = ["VARIABLE", "code_digest", "default_folder"]

VARIABLE = "QUANTHOST_CACHE"
# larger files, such as libraries, are known by their size and time
_READ = 1 << 20


def default_folder() -> Path:
    """The folder that ``QUANTHOST_CACHE`` names, or the user's own for caches."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("quanthost"))


def code_digest(package: str) -> str | None:
    """SHA-256 over all files of a package or module, including data, without importing it.

    The version is not enough: it stays the same while a package is developed. ``None`` if there is no such
    package.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    if not folders and spec.origin:
        files = [Path(spec.origin)]
    total = hashlib.sha256(package.encode())
    for file in sorted(file for file in files if file.is_file()):
        total.update(file.name.encode())
        status = file.stat()
        large = f"{status.st_size} {status.st_mtime_ns}".encode()
        total.update(file.read_bytes() if status.st_size < _READ else large)
    return total.hexdigest()
