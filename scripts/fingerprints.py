"""The toolchain code that quanthost and its plugins replace, skip or rewrite: is its fingerprint recorded?

``--write`` adds those of the installed toolchain to the records; do that once the tests pass with it, and add
its versions to ``PROVED`` in ``quanthost/toolchain/shortcuts.py``. Without, what is missing is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from executorch.backends.xnnpack._passes import XNNPACKPassManager

from quanthost.toolchain.fast import (
    constants,
    decompose,
    fusing,
    lazy_code,
    lookups,
    naming,
    passes,
    retrace,
)
from quanthost.toolchain.fast.accepted_code import FINGERPRINTS
from quanthost.toolchain.fingerprints import Fingerprints, name_of
from quanthost.toolchain.replacement import Replacement
from quanthost_xnnpack_like import preprocess

__all__ = ["RECORDS", "code"]

_REPLACING = (constants, decompose, fusing, lazy_code, lookups, naming, retrace)
RECORDS = (FINGERPRINTS, preprocess.FINGERPRINTS)


def replacements(record: Fingerprints) -> tuple[Replacement, ...]:
    """The functions that are replaced."""
    if record is preprocess.FINGERPRINTS:
        return (preprocess.REPLACEMENT,)
    return tuple(each for module in _REPLACING for each in module.REPLACEMENTS)


def passes_of(record: Fingerprints) -> tuple[type, ...]:
    """The passes that are skipped or rewritten, and the bases of those that only trace."""
    if record is preprocess.FINGERPRINTS:
        return tuple(preprocess.skippable_passes(XNNPACKPassManager(None).passes))
    return (*retrace.BASES, *passes.TWINS, *passes.concerns())


def code(record: Fingerprints) -> dict[str, Any]:
    """All code of a record, by name."""
    functions: dict[str, Any] = {}
    for each in replacements(record):
        # what a release lacks is not replaced there
        with contextlib.suppress(ImportError, AttributeError):
            functions[each.target] = each.original()
    return functions | {name_of(each): each for each in passes_of(record)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="add what is missing")
    options = parser.parse_args()
    if options.write:
        for each in RECORDS:
            each.record(code(each))
        return 0
    unrecorded = [name for each in RECORDS for name in each.missing(code(each))]
    print("\n".join(unrecorded), end="\n" * bool(unrecorded))
    return 1 if unrecorded else 0


if __name__ == "__main__":
    sys.exit(main())
