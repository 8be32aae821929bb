"""The site of fake distributions that the discovery tests see instead of the real one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site whose distributions are the only installed ones; the environment has no policy."""
    folder = tmp_path / "site"
    folder.mkdir()
    rest = [entry for entry in sys.path if "-packages" not in entry and not _has_metadata(entry)]
    monkeypatch.setattr(sys, "path", [str(folder), *rest])
    monkeypatch.delenv("QUANTHOST_BACKENDS", raising=False)
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


def _has_metadata(entry: str) -> bool:
    folder = Path(entry)
    return any(folder.glob("*.dist-info")) or any(folder.glob("*.egg-info"))
