"""What goes away: names, arguments and hooks that still work, and warn with their replacement."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

__all__ = [
    "Deprecated",
    "QuanthostDeprecationWarning",
    "old_names",
    "renamed_argument",
    "warn_at",
]

# modules whose functions stand between a module's user and the warning
_OWN = (__name__, "quanthost.exports")
_F = TypeVar("_F", bound=Callable[..., Any])


class QuanthostDeprecationWarning(DeprecationWarning):
    """Something of quanthost that will be removed was used; the message says what to use, and until when."""


# a named tuple: the command line starts with this module, and attrs takes as long to import as typer
class Deprecated(NamedTuple):
    """What goes away: its ``name`` as users write it, what to write ``instead``, and who removes it.

    Of a name, ``instead`` is the dotted path of what it stands for. ``removed_in`` is the first release of
    quanthost without it.
    """

    name: str
    instead: str
    removed_in: str

    def __str__(self) -> str:
        return (
            f"{self.name} is deprecated and will be removed in quanthost {self.removed_in}; "
            f"use {self.instead} instead"
        )


def old_names(module: str, table: Mapping[str, Deprecated]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module with old names: each warns, and gives what is instead of it."""

    def find(name: str) -> Any:
        if name not in table:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(str(table[name]), QuanthostDeprecationWarning, stacklevel=_outside(module))
        path, _, attribute = table[name].instead.rpartition(".")
        return getattr(importlib.import_module(path), attribute)

    return find


def _outside(module: str) -> int:
    """The stack level of the line that asked a module for a name, past the module's own functions."""
    frame, level = sys._getframe(), 0
    while frame.f_back is not None and frame.f_globals.get("__name__") in (*_OWN, module):
        frame, level = frame.f_back, level + 1
    return level


def renamed_argument(old: str, new: str, *, removed_in: str) -> Callable[[_F], _F]:
    """Let a function or class take an argument by its old name too, with a warning at the caller's line."""

    def wrap(function: _F) -> _F:
        if isinstance(function, type):
            function.__init__ = wrap(function.__init__)  # type: ignore[misc]  # as a decorator would
            return function
        label = function.__qualname__.removesuffix(".__init__")
        what = Deprecated(name=f"{label}({old}=…)", instead=f"{new}=…", removed_in=removed_in)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{label}() got {new!r} and its old name {old!r}")
                warnings.warn(str(what), QuanthostDeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]  # the same signature and one name more

    return wrap


def warn_at(what: Deprecated, function: Callable[..., Any]) -> None:
    """Warn at the definition of a function whose signature has something deprecated."""
    # late, as for Deprecated
    import inspect

    code = inspect.unwrap(function).__code__
    warnings.warn_explicit(str(what), QuanthostDeprecationWarning, code.co_filename, code.co_firstlineno)
