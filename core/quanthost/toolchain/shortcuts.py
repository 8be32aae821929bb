"""The only access to ``toolchain.fast``: the releases that its shortcuts are proved for, and who uses them.

Shortcuts depend on private parts of torch, torchao and ExecuTorch, and nothing else imports them. A stage
requests a shortcut by name. It gets none if the request selects upstream's toolchain, if the installed
versions are not ``PROVED``, or if a private part is missing. Then upstream's own code runs, and the record
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

from quanthost.toolchain.active import current, note
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


# tests compare both toolchains with these versions; 'make fingerprints' records their code
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
            ImportError, AttributeError: a part of the toolchain that it depends on does not exist.
        """
        module = importlib.import_module(f"quanthost.toolchain.fast.{self.module}")
        function: Callable[..., Any] = getattr(module, name)
        return function


SHORTCUTS = {
    # context managers that replace functions of the toolchain
    "compared_names": Shortcut("naming", ("prepare",)),
    "counted_names": Shortcut("naming", ("prepare", "convert")),
    "present_convolutions": Shortcut("fusing", ("prepare", "convert")),
    "compiled_when_called": Shortcut("lazy_code", ("prepare", "convert", "lower")),
    "incremental": Shortcut("retrace", ("lower",)),
    "local_decompositions": Shortcut("decompose", ("lower",)),
    "cached_lookups": Shortcut("lookups", ("lower",)),
    "shared_constants": Shortcut("constants", ("lower",)),
    # functions
    "lift": Shortcut("lift", ("lower",)),
    "detach_parts": Shortcut("constants", ("lower",)),
}


def shortcut(name: str) -> Callable[..., Any] | None:
    """The function of a shortcut, ``None`` if upstream's own code must run."""
    if current() is Toolchain.UPSTREAM:
        return None
    reason = _version_problem()
    function = None
    if reason is None:
        function, reason = _load(name)
    if reason is not None:
        note(reason)
    return function


@contextlib.contextmanager
def entered(*names: str) -> Iterator[None]:
    """Enter these shortcuts, which replace functions of the toolchain for this thread."""
    with contextlib.ExitStack() as stack:
        for name in names:
            manager = shortcut(name)
            if manager is not None:
                stack.enter_context(manager())
        yield


@functools.cache
def _load(name: str) -> tuple[Callable[..., Any] | None, str | None]:
    """A shortcut's function, or the reason why there is none."""
    try:
        return SHORTCUTS[name].load(name), None
    except (ImportError, AttributeError) as error:
        stages = ", ".join(SHORTCUTS[name].stages)
        return None, f"no shortcut {name} ({stages}): {error}"


@functools.cache
def _version_problem() -> str | None:
    """Why no shortcut can be used with the installed packages, ``None`` if they can."""
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
