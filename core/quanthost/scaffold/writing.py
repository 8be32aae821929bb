"""Writes a new folder of files, completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from quanthost.errors import RequestError

__all__ = ["refuse_existing", "write_folder"]


def refuse_existing(folder: Path) -> None:
    """Check that a folder can be created.

    Raises:
        RequestError: the name exists already, or its parent is not a folder.
    """
    if os.path.lexists(folder):
        raise RequestError(
            f"{folder}, which exists", needed="a new folder", where="new-backend",
            remedy="name another with --directory, or move this one away", value=folder,
        )  # fmt: skip
    if not folder.absolute().parent.is_dir():
        raise RequestError(
            f"{folder} inside {folder.parent}, which is not a folder", needed="an existing parent folder",
            where="new-backend", remedy=f"create {folder.parent} first", value=folder,
        )  # fmt: skip


def write_folder(folder: Path, content: Mapping[str, str]) -> None:
    """Write the files to a temporary folder next to the target, then rename it.

    Raises:
        RequestError: the folder exists, or cannot be written.
    """
    refuse_existing(folder)
    try:
        staged = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}."))
        try:
            complete = staged / "complete"
            # unlike the temporary folder, this one has the user's default permissions
            complete.mkdir()
            for path, text in content.items():
                target = complete / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            os.rename(complete, folder)
        finally:
            shutil.rmtree(staged)
    except OSError as error:
        raise RequestError(
            f"{folder}, which cannot be written: {error.strerror or error}",
            needed="a writable folder, and enough space", where="new-backend",
            remedy="free some space, or choose another folder", value=folder,
        ) from error  # fmt: skip
