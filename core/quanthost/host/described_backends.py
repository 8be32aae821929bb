"""Caches the descriptions of backends, so that showing one again loads neither its code nor torch."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from quanthost.host.folders import code_digest, default_folder
from quanthost.host.registry import Group, Installed, registered
from quanthost.stages.whole_files import write_whole
from quanthost.values import digest, to_data

__all__ = ["description"]


def description(backend: Installed, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The description as data for JSON: from the cache while the code is the same, else from ``make``.

    It is made each time if the folder for caches cannot be read or written, or if extensions are installed,
    which may change a backend's answers.
    """
    path = _path(backend)
    if path is None:
        return make()
    with contextlib.suppress(OSError, ValueError):
        stored: dict[str, Any] = json.loads(path.read_bytes())
        return stored
    data = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        for older in path.parent.glob(f"{backend.name}-*.json"):
            older.unlink(missing_ok=True)
        write_whole(path, json.dumps(data).encode())
    return data


def _path(backend: Installed) -> Path | None:
    """A file that is named by all that the description depends on; ``None`` if that is not known."""
    if backend.problem is not None or registered(Group.EXTENSIONS):
        return None
    code = [code_digest("quanthost"), code_digest(backend.package)]
    if None in code:
        return None
    requires = backend.manifest.requires if backend.manifest is not None else ()
    versions = [(name, _version(name)) for name in requires]
    key = digest((code, versions, to_data(backend.manifest), sys.version_info[:3]))
    return default_folder() / "descriptions" / f"{backend.name}-{key.partition(':')[2]}.json"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
