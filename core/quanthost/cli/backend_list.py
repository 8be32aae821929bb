"""Prints the installed backends, from their manifests alone; it imports neither typer nor a plugin."""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quanthost.host.discovery import Installed
    from quanthost.host.policy import Policy

__all__ = ["show_backends"]

# columns of the last cell, where names leave less of the screen
_NARROWEST = 24


def show_backends(policy: Policy, *, as_json: bool) -> None:
    """Write the installed backends and their recipes to stdout, as a table or as JSON."""
    from quanthost.cli.output import write_json, write_text
    from quanthost.host.discovery import installed

    plugins = installed(policy)
    if as_json:
        write_json([_document(backend) for backend in plugins])
    elif not plugins:
        write_text("no backend is installed; a plugin is a distribution: pip install quanthost-xnnpack-like")
    else:
        write_text(_listing(plugins))


def _listing(plugins: Iterable[Installed]) -> str:
    """Three columns as in the tables of other commands, the last one wrapped.

    The library that makes those tables takes longer to import than all the rest of this command.
    """
    rows = [(["backend"], ["recipes"], ["about"]), *map(_row, plugins)]
    first, second = (max(len(line) for row in rows for line in row[column]) for column in (0, 1))
    room = max(shutil.get_terminal_size().columns - first - second - 4, _NARROWEST)
    lines = []
    for names, recipes, texts in rows:
        about = [line for text in texts for line in textwrap.wrap(text, room, break_on_hyphens=False)]
        cells = itertools.zip_longest(names, recipes, about, fillvalue="")
        lines += [f"{name:{first}}  {recipe:{second}}  {text}".rstrip() for name, recipe, text in cells]
    return "\n".join(lines)


def _row(backend: Installed) -> tuple[list[str], list[str], list[str]]:
    """The lines of the three cells."""
    manifest, problem = backend.manifest, backend.problem
    about = [] if manifest is None else [manifest.summary]
    about.append(f"{backend.distribution} {backend.version}")
    if problem is not None:
        about.append(f"cannot be used: {problem.seen}; to do: {problem.remedy}")
    return [backend.name], [] if manifest is None else list(manifest.recipes), about


def _document(backend: Installed) -> dict[str, Any]:
    manifest, problem = backend.manifest, backend.problem
    return {
        "name": backend.name,
        "distribution": backend.distribution,
        "version": backend.version,
        "entry_point": backend.entry_point,
        "summary": None if manifest is None else manifest.summary,
        "api": None if manifest is None else manifest.api,
        "recipes": None if manifest is None else list(manifest.recipes),
        "requires": None if manifest is None else list(manifest.requires),
        "runtime": None if manifest is None else manifest.runtime or None,
        "problem": None if problem is None else {"seen": problem.seen, "to_do": problem.remedy},
    }
