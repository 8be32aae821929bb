"""Values are loaded lazily, and only those that are used."""

from __future__ import annotations

import subprocess
import sys


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
            "quanthost.exports",
            "quanthost.values",
            "quanthost.values.checks",
            "quanthost.values.manifest",
        ]
    )
