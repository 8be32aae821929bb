"""``UsageError``: what was typed, or stands in the configuration file, cannot be understood or done."""

from __future__ import annotations

import os
from pathlib import Path

from quanthost.errors import RequestError

__all__ = ["UsageError", "refuse_existing"]


class UsageError(RequestError):
    """The command line or the configuration file is wrong; the process ends with exit code 2."""


def refuse_existing(*paths: Path, force: bool) -> None:
    """Refuse to replace a file without ``--force``, and to write where there is no folder to write into.

    Raises:
        UsageError: a file exists, or its folder does not or is not writable.
    """
    for path in paths:
        if path.is_dir() or (path.exists() and not force):
            raise UsageError(
                f"{path}, which exists" + (" and is a folder" if path.is_dir() else ""), value=path,
                needed="a path that is free", where="output",
                remedy="choose another path" + ("" if path.is_dir() else ", or replace it with --force"),
            )  # fmt: skip
        if not path.parent.is_dir():
            raise UsageError(
                f"{path} in a folder that does not exist", needed="an existing folder", where="output",
                remedy=f"make it first: mkdir -p {path.parent}", value=path,
            )  # fmt: skip
        if not os.access(path.parent, os.W_OK):
            raise UsageError(
                f"{path} in a folder that is not writable", needed="a folder that you may write to",
                where="output", remedy="choose another folder", value=path,
            )  # fmt: skip
