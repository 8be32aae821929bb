"""What a backend says of itself, kept so that to show it again loads neither its code nor torch."""

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

__all__ = ["described"]


def described(backend: Installed, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The description as data for JSON: what is kept of the same code, or what ``make`` gives, which is kept.

    Where the folder for caches cannot be read or written, it is made each time. So it is while extensions
    are installed, which may change what a backend says.
    """
    path = _place(backend)
    if path is None:
        return make()
    with contextlib.suppress(OSError, ValueError):
        held: dict[str, Any] = json.loads(path.read_bytes())
        return held
    made = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        for older in path.parent.glob(f"{backend.name}-*.json"):
            older.unlink(missing_ok=True)
        write_whole(path, json.dumps(made).encode())
    return made


def _place(backend: Installed) -> Path | None:
    """A file by the name and by all that the description depends on."""
    if backend.problem is not None or registered(Group.EXTENSIONS):
        return None
    code = [code_digest("quanthost"), code_digest(backend.package)]
    if None in code:
        return None
    needed = backend.manifest.requires if backend.manifest is not None else ()
    versions = [(name, _version(name)) for name in needed]
    key = digest((code, versions, to_data(backend.manifest), sys.version_info[:3]))
    return default_folder() / "descriptions" / f"{backend.name}-{key.partition(':')[2]}.json"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
