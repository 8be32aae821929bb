"""The toolchain code that quanthost and its plugins replace, skip or rewrite: is its fingerprint recorded?

``--write`` adds those of the installed toolchain to the records; do that once the tests pass with it, and add
its versions to ``PROVED`` in ``quanthost/toolchain/shortcuts.py``. Without, what is missing is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from executorch.backends.xnnpack._passes import XNNPACKPassManager

from quanthost.toolchain.fast import constants, decompose, lazy_code, lookups, naming, passes, retrace
from quanthost.toolchain.fast.proved import FINGERPRINTS
from quanthost.toolchain.fingerprints import Fingerprints, fingerprint, name_of
from quanthost.toolchain.replacement import Replacement
from quanthost_xnnpack_like import preprocess

__all__ = ["RECORDS", "code", "missing", "record", "replacements"]

_REPLACING = (constants, decompose, lazy_code, lookups, naming, retrace)
RECORDS = (FINGERPRINTS, preprocess.FINGERPRINTS)


def replacements(record: Fingerprints) -> tuple[Replacement, ...]:
    """The functions that are replaced."""
    if record is preprocess.FINGERPRINTS:
        return (preprocess.REPLACEMENT,)
    return tuple(each for module in _REPLACING for each in module.REPLACEMENTS)


def passes_of(record: Fingerprints) -> tuple[type, ...]:
    """The passes that are skipped or rewritten, and the bases of those that only trace."""
    if record is preprocess.FINGERPRINTS:
        return tuple(preprocess.known_passes(XNNPACKPassManager(None).passes))
    return (*retrace.BASES, *passes.TWINS, *passes.concerns())


def code(record: Fingerprints) -> Iterator[tuple[str, Any]]:
    """All code of a record, by name."""
    yield from ((each.target, each.original()) for each in replacements(record))
    yield from ((name_of(each), each) for each in passes_of(record))


def missing(record: Fingerprints) -> dict[str, str]:
    """The installed code's fingerprints that are not recorded."""
    digests = {name: fingerprint(each) for name, each in code(record)}
    return {name: digest for name, digest in digests.items() if digest not in record.accepted.get(name, ())}


def record(fingerprints: Fingerprints) -> None:
    """Add the installed code's fingerprints to the file."""
    content = {name: list(digests) for name, digests in fingerprints.accepted.items()}
    for name, digest in missing(fingerprints).items():
        content.setdefault(name, []).append(digest)
    text = json.dumps(dict(sorted(content.items())), indent=2)
    fingerprints.path.write_text(f"{text}\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="add what is missing")
    options = parser.parse_args()
    unrecorded = [name for each in RECORDS for name in missing(each)]
    if options.write:
        for each in RECORDS:
            record(each)
        return 0
    print("\n".join(unrecorded), end="\n" * bool(unrecorded))
    return 1 if unrecorded else 0


if __name__ == "__main__":
    sys.exit(main())
