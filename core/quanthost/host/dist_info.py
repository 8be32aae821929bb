"""Reads the metadata of installed distributions as ``importlib.metadata`` does, but without importing it.

That import alone takes longer than listing the backends.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from typing import Protocol

__all__ = ["Distribution", "distributions", "entry_points", "fields", "normalized", "version"]


class Distribution(Protocol):
    """An installed distribution; ``importlib.metadata.Distribution`` satisfies this protocol."""

    def read_text(self, filename: str, /) -> str | None:
        """The text of a metadata file, or ``None`` if it cannot be read."""


class _Folder:
    """A ``.dist-info`` or ``.egg-info`` folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read_text(self, filename: str, /) -> str | None:
        try:
            with open(os.path.join(self.path, filename), encoding="utf-8") as stream:
                return stream.read()
        except OSError:
            return None


def distributions() -> Iterator[Distribution]:
    """All distributions in the order of ``sys.path``; a project that is there twice is yielded twice.

    ``importlib.metadata`` lists them if another finder provides distributions, or if an entry of ``sys.path``
    is an archive.
    """
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    if finders == [PathFinder] and not any(map(os.path.isfile, sys.path)):
        for entry in sys.path:
            yield from _folders(entry)
        return
    from importlib import metadata

    yield from metadata.distributions()


def _folders(entry: str) -> Iterator[_Folder]:
    try:
        names = os.listdir(entry or ".")
    except OSError:
        return
    in_egg = entry.lower().endswith(".egg")
    for name in names:
        lower = name.lower()
        if lower.endswith((".dist-info", ".egg-info")) or (in_egg and lower == "egg-info"):
            yield _Folder(os.path.join(entry, name))


def fields(distribution: Distribution) -> dict[str, str]:
    """The header fields of ``METADATA`` by lower-case name, the first of each; empty without the file."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    headers: dict[str, str] = {}
    for line in text.splitlines():
        if not line:
            break
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), value.strip())
    return headers


def normalized(project: str) -> str:
    """The normalized name of a project (PEP 503)."""
    return re.sub(r"[-_.]+", "-", project).lower()


def version(project: str) -> str:
    """The version of an installed project; empty if it is not installed."""
    for distribution in distributions():
        path = os.path.basename(getattr(distribution, "path", ""))
        # a folder's name begins with the project's name, so that most folders need not be read
        if path and not normalized(path).startswith(normalized(project)):
            continue
        headers = fields(distribution)
        if normalized(headers.get("name", "")) == normalized(project):
            return headers.get("version", "")
    return ""


def entry_points(text: str, group: str) -> list[tuple[str, str]]:
    """Names and values of a group in the text of an ``entry_points.txt``.

    Raises:
        ValueError: a line of the group has no value.
    """
    points, section = [], None
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == group:
            name, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"the line {line!r} has no value")
            points.append((name.strip(), value.strip()))
    return points
