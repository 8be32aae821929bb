"""Fingerprints of toolchain code: detect functions and classes that changed since a shortcut was proved."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import linecache
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quanthost.toolchain.active import note

__all__ = ["Fingerprints", "fingerprint", "name_of"]

_DIGITS = 16


class Fingerprints:
    """The accepted fingerprints of functions and classes, by name, from a JSON file.

    The file maps ``"package.module:Class.function"`` to a list of fingerprints, one for each version of the
    code with which a shortcut was proved. ``record`` writes the file, ``accept`` compares with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results: dict[str, bool] = {}

    @functools.cached_property
    def accepted(self) -> dict[str, list[str]]:
        """The content of the file; empty if there is none."""
        if not self.path.exists():
            return {}
        content: dict[str, list[str]] = json.loads(self.path.read_text(encoding="utf-8"))
        return content

    def accept(self, code: Any, name: str | None = None) -> bool:
        """Whether a function or class is unchanged; if not, the record of the program says so.

        A process compares each function once.
        """
        name = name_of(code) if name is None else name
        if name not in self._results:
            self._results[name] = fingerprint(code) in self.accepted.get(name, ())
        if not self._results[name]:
            note(f"{name} is not as it was when its shortcut was proved")
        return self._results[name]

    def missing(self, code: Mapping[str, Any]) -> dict[str, str]:
        """The fingerprints of functions and classes, by name, that are not in the file."""
        digests = {name: fingerprint(each) for name, each in code.items()}
        return {name: digest for name, digest in digests.items() if digest not in self.accepted.get(name, ())}

    def record(self, code: Mapping[str, Any]) -> None:
        """Add what is missing to the file; fingerprints of other versions stay."""
        content = {name: list(digests) for name, digests in self.accepted.items()}
        for name, digest in self.missing(code).items():
            content.setdefault(name, []).append(digest)
        text = json.dumps(dict(sorted(content.items())), indent=2)
        self.path.write_text(f"{text}\n", encoding="utf-8")


def name_of(code: Any) -> str:
    """The name of a function or class in files of fingerprints."""
    return f"{code.__module__}:{code.__qualname__}"


def fingerprint(code: Any) -> str:
    """16 hexadecimal digits of SHA-256 over a function's source, or over the files that define a class.

    A class depends on helpers, constants and bases, so that whole files count. Code of Python's standard
    library counts by name: its source changes with the version of Python. Without source: ``""``.
    """
    if isinstance(code, type):
        digests = [_digest_of_file(_file(kind)) for kind in code.__mro__ if not _is_standard_library(kind)]
        return _digest(" ".join(digests).encode()) if all(digests) else ""
    function = inspect.unwrap(_underlying_function(code))
    if _is_standard_library(function):
        return _digest(name_of(function).encode())
    lines = linecache.getlines(function.__code__.co_filename)[function.__code__.co_firstlineno - 1 :]
    return _digest("".join(inspect.getblock(lines)).encode()) if lines else ""


def _underlying_function(code: Any) -> Callable[..., Any]:
    """The function of a property or a class method."""
    if isinstance(code, property):
        getter: Any = code.fget
        return getter  # type: ignore[no-any-return]
    function: Callable[..., Any] = getattr(code, "__func__", code)
    return function


def _is_standard_library(code: Any) -> bool:
    return str(code.__module__).partition(".")[0] in sys.stdlib_module_names


def _file(kind: type) -> str:
    return getattr(sys.modules.get(kind.__module__), "__file__", None) or ""


@functools.cache
def _digest_of_file(file: str) -> str:
    path = Path(file)
    return _digest(path.read_bytes()) if path.suffix == ".py" and path.exists() else ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
