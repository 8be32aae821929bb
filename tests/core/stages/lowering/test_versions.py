"""The versions in a record."""

from __future__ import annotations

import importlib.metadata

import pytest

from quanthost.stages.lowering.versions import versions


def test_each_distribution_of_the_toolchain() -> None:
    """Those that are installed, by name."""
    found = dict(versions())

    assert list(found) == ["quanthost", "torch", "torchao", "executorch"]
    assert found["torch"] == importlib.metadata.version("torch")


def test_one_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record can be made without it, and says so."""

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert set(dict(versions()).values()) == {"not installed"}
