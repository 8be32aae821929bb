"""``MODULE:CALLABLE``: names a function of the user's code, by module name or by file."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import attrs

from quanthost.cli.usage import UsageError
from quanthost.errors import QuanthostError, RequestError
from quanthost.toolchain.quiet import unloadable_kernels_hidden

__all__ = ["Reference", "is_reference"]

_NEEDED = "MODULE:CALLABLE, for example zoo.nets:build or path/to/nets.py:build"


@attrs.frozen
class Reference:
    """A callable without arguments: ``module`` is a dotted name, or the path of a ``.py`` file."""

    module: str
    name: str

    @classmethod
    def parse(cls, text: str, *, where: str) -> Reference:
        """``"zoo.nets:build"`` or ``"path/to/nets.py:build"``."""
        module, colon, name = text.rpartition(":")
        if not (colon and module and name.isidentifier()):
            raise UsageError(
                f"{text!r}", needed=_NEEDED, where=where, value=text,
                remedy="write the module or file, a colon, and the name of the function",
            )  # fmt: skip
        return cls(module, name)

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    @property
    def is_file(self) -> bool:
        return self.module.endswith(".py")

    def call(self, *, where: str) -> Any:
        """What the callable returns.

        Raises:
            UsageError: there is no such module, file or callable.
            RequestError: the user's code raised; its exception is the cause.
        """
        with unloadable_kernels_hidden():
            return _call_guarded(self._resolve(where), f"{self}()", where)

    def _resolve(self, where: str) -> Callable[[], Any]:
        module = _from_file(self, where) if self.is_file else _by_name(self, where)
        function: Any = getattr(module, self.name, None)
        if function is None:
            near = difflib.get_close_matches(self.name, [n for n in dir(module) if n[0] != "_"], n=1)
            raise UsageError(
                f"{self.module} without {self.name!r}", needed="the name of a function in it", where=where,
                remedy=f"write {self.module}:{near[0]}" if near else "correct the name", value=self,
            )  # fmt: skip
        if not callable(function):
            raise UsageError(
                f"{self}, a {type(function).__name__}", needed="something to call without arguments",
                where=where, remedy="put it into a function that returns it", value=self,
            )  # fmt: skip
        return cast("Callable[[], Any]", function)


def is_reference(text: str) -> bool:
    """Whether a text that may be a path or a reference is the latter: a path that exists is a path."""
    return ":" in text and not Path(text).exists()


def _by_name(reference: Reference, where: str) -> ModuleType:
    _search_first(Path.cwd())
    try:
        return _import_guarded(lambda: importlib.import_module(reference.module), reference, where)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"no module {error.name!r}", needed=_NEEDED, where=where, value=reference,
            remedy="correct the name, or run in the folder that holds the module",
        ) from error  # fmt: skip


def _from_file(reference: Reference, where: str) -> ModuleType:
    path = Path(reference.module)
    if not path.is_file():
        raise UsageError(
            f"no file {path}", needed=_NEEDED, where=where, remedy="correct the path", value=reference
        )
    _search_first(path.resolve().parent)
    return _import_guarded(lambda: _load_file(path.resolve()), reference, where)


@functools.cache
def _load_file(path: Path) -> ModuleType:
    """Run a file as a module of its own name, once, even if several options name it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # before it runs: dataclasses and pickle look the module up while its classes are created
    shadowed = sys.modules.get(path.stem)
    if shadowed is None:
        sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if shadowed is None:
            del sys.modules[path.stem]
        raise
    return module


def _search_first(folder: Path) -> None:
    """Let modules beside the user's win, as when Python runs a script there."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import_guarded(load: Callable[[], ModuleType], reference: Reference, where: str) -> ModuleType:
    """Pass on the error of a reference to a missing module; any other error is one of the user's code."""
    try:
        return load()
    except ModuleNotFoundError as error:
        own = error.name is not None and f"{reference.module}.".startswith(f"{error.name}.")
        if own and not reference.is_file:
            raise
        raise _user_code_error(error, f"import of {reference.module}", where) from error
    except (Exception, SystemExit) as error:
        raise _user_code_error(error, f"import of {reference.module}", where) from error


def _call_guarded(function: Callable[[], Any], label: str, where: str) -> Any:
    try:
        return function()
    except QuanthostError:
        raise
    except (Exception, SystemExit) as error:
        raise _user_code_error(error, label, where) from error


def _user_code_error(error: BaseException, label: str, where: str) -> RequestError:
    # late: torch comes with it
    from quanthost.graph.provenance import innermost, locations

    line = innermost(locations(error.__traceback__))
    return RequestError(
        f"{label} raised {type(error).__name__}: {error}", needed="code that runs through", value=error,
        where=where if line is None else f"{where}, {line}: {line.text}",
        remedy="correct it there; --traceback shows the way to it",
    )  # fmt: skip
