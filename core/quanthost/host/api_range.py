"""The version of the plugin API, and whether a plugin's range admits it."""

from __future__ import annotations

import re

__all__ = ["API_VERSION", "admits"]

API_VERSION = "1.1"
"""Version of what ``quanthost.api`` offers to plugins; its own, not the distribution's.

What raises it, and what each version brought, is in ``docs/reference/api-policy.md``.
"""


# the ranges that manifests have as a rule
_PLAIN = re.compile(r"\s*>=\s*(\d+(?:\.\d+)?)\s*,\s*<\s*(\d+(?:\.\d+)?)\s*")


def admits(api: str) -> bool:
    """Whether the PEP 440 range (``">=1,<2"``) contains this host's ``API_VERSION``.

    Raises:
        ValueError: the text is not a version range.
    """
    plain = _PLAIN.fullmatch(api)
    if plain is not None:
        return _number(plain[1]) <= _number(API_VERSION) < _number(plain[2])
    # late: its import takes a fifth of a listing
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(api).contains(API_VERSION)


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)
