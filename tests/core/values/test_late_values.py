"""Values are loaded when they are asked for, and only those."""

from __future__ import annotations

import subprocess
import sys

import pytest

import quanthost
import quanthost.values


@pytest.mark.parametrize("package", [quanthost, quanthost.values], ids=["quanthost", "values"])
def test_every_name_is_there(package: object) -> None:
    """All that is said to be public, and a clear answer for what is not."""
    names = package.__all__  # type: ignore[attr-defined]
    assert dir(package) == sorted(set(names))
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_manifest_needs_no_other_value() -> None:
    """The package alone loads none, and one of them only what it is made of."""
    code = (
        "import sys, quanthost\nfrom quanthost.values import Manifest\n"
        "print(sorted(m for m in sys.modules if m.startswith('quanthost.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(
        [
            "quanthost.deprecation",
            "quanthost.errors",
            "quanthost.values",
            "quanthost.values.checks",
            "quanthost.values.manifest",
        ]
    )
