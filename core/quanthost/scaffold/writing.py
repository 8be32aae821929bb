"""A new folder of files, which appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from quanthost.errors import RequestError

__all__ = ["refuse_existing", "write_folder"]


def refuse_existing(folder: Path) -> None:
    """Refuse a folder (or file, or link) that exists already.

    Raises:
        RequestError: there is something of that name, or no folder to make it in.
    """
    if os.path.lexists(folder):
        raise RequestError(
            f"{folder}, which exists", needed="a folder that is new", where="new-backend",
            remedy="name another with --directory, or move this one away", value=folder,
        )  # fmt: skip
    if not folder.absolute().parent.is_dir():
        raise RequestError(
            f"{folder} inside {folder.parent}, which is no folder", needed="a folder to make it in",
            where="new-backend", remedy=f"make {folder.parent} first", value=folder,
        )  # fmt: skip


def write_folder(folder: Path, content: Mapping[str, str]) -> None:
    """Write the files beside the folder's place first, then move them there.

    Raises:
        RequestError: the folder exists, or cannot be written.
    """
    refuse_existing(folder)
    try:
        staged = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}."))
        try:
            made = staged / "made"
            # of the permissions that the user's folders have, which a temporary one has not
            made.mkdir()
            for path, text in content.items():
                target = made / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            os.rename(made, folder)
        finally:
            shutil.rmtree(staged)
    except OSError as error:
        raise RequestError(
            f"{folder}, which cannot be written: {error.strerror or error}",
            needed="a folder that is writable, on a disk with room", where="new-backend",
            remedy="make room, or choose another folder", value=folder,
        ) from error  # fmt: skip
