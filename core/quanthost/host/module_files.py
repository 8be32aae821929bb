"""Locates modules and packages without importing them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

__all__ = ["is_importable", "package_folders"]


def is_importable(module: str) -> bool:
    """Whether an import would find the module (``"package.module"``)."""
    if sys.modules.get(module) is not None:
        return True
    return len(list(_specs(module))) == module.count(".") + 1


def package_folders(module: str) -> list[Path]:
    """Folders of the packages that hold the module, the innermost first.

    A module that is itself a package counts; a namespace package gives all its folders.
    """
    nested = [[Path(folder) for folder in spec.submodule_search_locations or ()] for spec in _specs(module)]
    return [folder for folders in reversed(nested) for folder in folders]


def _specs(module: str) -> Iterator[ModuleSpec]:
    """The specs of the top-level package and of each part below it, as far as they exist."""
    parts = module.split(".")
    spec = _top_level_spec(parts[0])
    for length in range(2, len(parts) + 1):
        if spec is None:
            return
        yield spec
        spec = _inner_spec(".".join(parts[:length]), list(spec.submodule_search_locations or ()))
    if spec is not None:
        yield spec


def _inner_spec(name: str, folders: list[str]) -> ModuleSpec | None:
    """The spec of a dotted name inside its parent's folders.

    ``importlib.util.find_spec`` would import the parents. Asked for the last part alone, ``PathFinder``
    looks into the folders and needs no parent in ``sys.modules``; the other finders follow, since an
    editable install may provide a package inside a namespace by its own finder.
    """
    spec = PathFinder.find_spec(name.rpartition(".")[2], folders)
    others = (finder for finder in sys.meta_path if finder is not PathFinder)
    while spec is None and (finder := next(others, None)) is not None:
        spec = finder.find_spec(name, folders)
    return spec


def _top_level_spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:
        # the answer for modules that were imported without a spec, as __main__ is
        return None
