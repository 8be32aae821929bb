"""The door to ``toolchain.fast``: each shortcut, the stages that it serves, and upstream's own way around it.

Shortcuts rest on private parts of torch, torchao and ExecuTorch. Nothing else imports them. A stage asks for
a shortcut by name, and gets none if upstream's toolchain is wanted, if the installed versions are not
``PROVED``, or if a private part is missing. Then the toolchain does what it does without us, and the record
of the program says why.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from quanthost.toolchain.ways import current, note
from quanthost.values import Toolchain

__all__ = ["PROVED", "SHORTCUTS", "Shortcut", "Versions", "entered", "shortcut"]


@attrs.frozen(kw_only=True)
class Versions:
    """One combination of the toolchain's packages, without the suffix of a build (``+cpu``)."""

    torch: str
    torchao: str
    executorch: str

    def __str__(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in attrs.asdict(self).items())


# the combinations with which the tests compare both ways; their fingerprints: make fingerprints
PROVED = tuple(
    Versions(torch="2.13.0", torchao="0.18.0", executorch=version) for version in ("1.5.1", "1.5.0", "1.4.1")
)


@attrs.frozen
class Shortcut:
    """One function of a module below ``toolchain.fast``, and the stages that use it."""

    module: str
    stages: tuple[str, ...]

    def load(self, name: str) -> Callable[..., Any]:
        """The function.

        Raises:
            ImportError, AttributeError: a part of the toolchain that it rests on is not there.
        """
        module = importlib.import_module(f"quanthost.toolchain.fast.{self.module}")
        function: Callable[..., Any] = getattr(module, name)
        return function


SHORTCUTS = {
    # context managers that replace functions of the toolchain
    "compared_names": Shortcut("naming", ("prepare",)),
    "counted_names": Shortcut("naming", ("prepare", "convert")),
    "compiled_when_called": Shortcut("lazy_code", ("prepare", "convert", "lower")),
    "incremental": Shortcut("retrace", ("lower",)),
    "local_decompositions": Shortcut("decompose", ("lower",)),
    "remembered_lookups": Shortcut("lookups", ("lower",)),
    "shared_constants": Shortcut("constants", ("lower",)),
    # functions
    "lift": Shortcut("lift", ("lower",)),
    "detach_parts": Shortcut("constants", ("lower",)),
}


def shortcut(name: str) -> Callable[..., Any] | None:
    """The function of a shortcut, ``None`` if the toolchain's own way is to be taken."""
    if current() is Toolchain.UPSTREAM:
        return None
    reason = _unproved()
    function = None
    if reason is None:
        function, reason = _loaded(name)
    if reason is not None:
        note(reason)
    return function


@contextlib.contextmanager
def entered(*names: str) -> Iterator[None]:
    """While entered, in this thread, the functions that these shortcuts replace are replaced."""
    with contextlib.ExitStack() as stack:
        for name in names:
            manager = shortcut(name)
            if manager is not None:
                stack.enter_context(manager())
        yield


@functools.cache
def _loaded(name: str) -> tuple[Callable[..., Any] | None, str | None]:
    """A shortcut's function, or why there is none."""
    try:
        return SHORTCUTS[name].load(name), None
    except (ImportError, AttributeError) as error:
        stages = ", ".join(SHORTCUTS[name].stages)
        return None, f"no shortcut {name} ({stages}): {error}"


@functools.cache
def _unproved() -> str | None:
    """Why no shortcut is taken with the packages that are installed."""
    installed = Versions(**{field.name: _version(field.name) for field in attrs.fields(Versions)})
    if installed in PROVED:
        return None
    proved = "; ".join(map(str, PROVED))
    return f"no shortcuts with {installed}: they are proved with {proved}"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
