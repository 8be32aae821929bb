"""The version of the plugin API, and whether a plugin's range admits it."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet

__all__ = ["API_VERSION", "admits"]

API_VERSION = "1.1"
"""Version of what ``quanthost.api`` offers to plugins; its own, not the distribution's.

What raises it, and what each version brought, is in ``docs/reference/api-policy.md``.
"""


def admits(api: str) -> bool:
    """Whether the PEP 440 range (``">=1,<2"``) contains this host's ``API_VERSION``.

    Raises:
        packaging.specifiers.InvalidSpecifier: the text is not a version range.
    """
    return SpecifierSet(api).contains(API_VERSION)
