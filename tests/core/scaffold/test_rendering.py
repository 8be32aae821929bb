"""The files of a new backend: which there are, and that each is filled in."""

from __future__ import annotations

import ast

import pytest

from quanthost.scaffold.plan import Kind, make_plan
from quanthost.scaffold.rendering import render
from quanthost.values import PROFILES


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", [Kind.DELEGATE, Kind.PORTABLE], ids=lambda kind: kind.value)
def test_files_are_filled_in(kind: Kind, profile: str) -> None:
    """Python that parses, no mark of a template left, and the profile that was asked for."""
    files = render(make_plan("npu", kind=kind, profile=profile))

    for path, text in files.items():
        # CI's own expressions have braces
        assert "{%" not in text, path
        if path.endswith(".py"):
            ast.parse(text, path)
    assert f"arithmetic={profile.upper()}" in files["src/quanthost_npu/backend.py"]
    has_delegate = kind is Kind.DELEGATE
    assert ("src/quanthost_npu/delegate.py" in files) == has_delegate
    assert not has_delegate or f", {profile.upper()})" in files["src/quanthost_npu/delegate.py"]


def test_hidden_files_are_hidden() -> None:
    """``dot-`` stands for the dot, and the package's folder has its name."""
    files = render(make_plan("npu", kind=Kind.PORTABLE))

    assert {".gitignore", ".github/workflows/ci.yml", "src/quanthost_npu/py.typed"} <= files.keys()
    assert not [path for path in files if "dot-" in path or "PACKAGE" in path]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_longest_names_fit(profile: str) -> None:
    """No line of code is longer than the formatter that comes with it allows."""
    files = render(make_plan("a" * 24, kind=Kind.DELEGATE, profile=profile))
    long = [
        line for path, text in files.items() if path.endswith(".py")
        for line in text.splitlines() if len(line) > 110
    ]  # fmt: skip

    assert long == []
