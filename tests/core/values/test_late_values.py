"""Values are loaded lazily, and only those that are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import quanthost
import quanthost.values


@pytest.mark.parametrize("package", [quanthost, quanthost.values], ids=["quanthost", "values"])
def test_every_name_is_there(package: object) -> None:
    """All public names exist, and an unknown name gives a clear error."""
    names = package.__all__  # type: ignore[attr-defined]
    assert dir(package) == sorted(set(names))
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_manifest_needs_no_other_value() -> None:
    """The package loads no value by itself, and a value loads only what it uses."""
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
