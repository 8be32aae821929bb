"""Writes docs/benchmarks/suite.md from the stored results of faulty.py and mutation.py."""

from __future__ import annotations


def write() -> None:
    """Write the page."""
