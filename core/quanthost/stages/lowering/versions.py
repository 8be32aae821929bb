"""The versions of quanthost and the toolchain, for the records of programs."""

from __future__ import annotations

import importlib.metadata

__all__ = ["versions"]

_VERSIONED = ("quanthost", "torch", "torchao", "executorch")


def versions() -> tuple[tuple[str, str], ...]:
    """Name and version of each distribution of the toolchain."""
    return tuple((name, _version(name)) for name in _VERSIONED)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
