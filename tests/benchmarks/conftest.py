"""Puts the benchmark scripts, and what tests of plugins share, on the import path."""

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS.parent / "benchmarks"), str(_TESTS / "plugins"), str(_TESTS / "core")]
