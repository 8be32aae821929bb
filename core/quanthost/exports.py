"""Lazy re-exports: the ``if TYPE_CHECKING:`` block of a module is the one list of its public names.

A line ``from package.module import name as name`` in that block exports ``name``. Type checkers and editors
read it as any other import; ``lazy_exports`` reads it from the module's source, and imports what a name
stands for when the name is first used.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from quanthost.deprecation import Deprecated, old_names

__all__ = ["exported_names", "lazy_exports"]


def lazy_exports(
    module: str,
    old: Mapping[str, Deprecated] | None = None,
    importing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a module; ``__all__`` is served by the former.

    Args:
        module: The module's ``__name__``.
        old: Deprecated names, which still work and warn.
        importing: Returns a context in which a name's module is imported.
    """
    find_old = old_names(module, {} if old is None else old)

    @functools.cache
    def sources() -> dict[str, str]:
        # it reads the file, or uses the loader if there is no file, as in a zip archive
        import linecache

        variables = vars(sys.modules[module])
        return exported_names("".join(linecache.getlines(variables["__file__"], variables)))

    def find(name: str) -> Any:
        if name == "__all__":
            return sorted(sources())
        if name not in sources():
            return find_old(name)
        with importing():
            value = getattr(importlib.import_module(sources()[name]), name)
        setattr(sys.modules[module], name, value)
        return value

    return find, lambda: sorted(sources())


def exported_names(source: str) -> dict[str, str]:
    """The names that a module exports by its source, each with the module that it is imported from."""
    # late: what only lists backends or prints help uses no exported name
    import ast

    blocks = (
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    return {
        name.name: str(statement.module)
        for block in blocks
        for statement in block
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
        if name.asname == name.name
    }
