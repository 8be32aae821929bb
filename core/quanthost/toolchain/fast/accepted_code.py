"""The fingerprints of toolchain code that the shortcuts replace, skip or rewrite."""

from __future__ import annotations

from pathlib import Path

from quanthost.toolchain.fingerprints import Fingerprints

__all__ = ["FINGERPRINTS"]

FINGERPRINTS = Fingerprints(Path(__file__).with_name("fingerprints.json"))
