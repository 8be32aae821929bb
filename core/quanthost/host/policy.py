"""Which plugins may be imported: the allow list and the block list."""

from __future__ import annotations

import os
from collections.abc import Iterable

import attrs

from quanthost.errors import RequestError

__all__ = ["ENVIRONMENT", "Policy"]

ENVIRONMENT = "QUANTHOST_BACKENDS"
_BLOCKING = ("-", "!")


@attrs.frozen(kw_only=True)
class Policy:
    """Names of backends and extensions that may be imported (``None``: any), and names that may not.

    As text, in ``QUANTHOST_BACKENDS`` or on the command line, a policy is a list separated by commas:
    ``"a,b"`` allows a and b alone, ``"-c"`` or ``"!c"`` blocks c and leaves the others, ``"a,b,-b"``
    allows a alone because blocking wins. Blank text restricts nothing.
    """

    allowed: tuple[str, ...] | None = None
    blocked: tuple[str, ...] = ()

    @classmethod
    def of(cls, backends_allowed: str | Iterable[str] | None = None) -> Policy:
        """The environment's policy, narrowed by the argument: both have to admit a name.

        The argument is text or a sequence of the same entries; an empty sequence allows nothing.
        """
        policy = cls.from_text(os.environ.get(ENVIRONMENT, ""), where=ENVIRONMENT)
        if backends_allowed is None:
            return policy
        if isinstance(backends_allowed, str):
            return policy.narrowed(cls.from_text(backends_allowed, where="backends_allowed"))
        return policy.narrowed(_from_entries(backends_allowed, "backends_allowed"))

    @classmethod
    def from_text(cls, text: str, *, where: str) -> Policy:
        entries = [entry for entry in text.split(",") if entry.strip()]
        return _from_entries(entries, where) if entries else cls()

    def narrowed(self, other: Policy) -> Policy:
        """The policy that admits what both admit."""
        blocked = tuple(dict.fromkeys(self.blocked + other.blocked))
        if self.allowed is None or other.allowed is None:
            allowed = other.allowed if self.allowed is None else self.allowed
        else:
            allowed = tuple(name for name in self.allowed if name in other.allowed)
        return Policy(allowed=allowed, blocked=blocked)

    def admits(self, name: str) -> bool:
        return name not in self.blocked and (self.allowed is None or name in self.allowed)

    def __str__(self) -> str:
        allowed = "any" if self.allowed is None else ", ".join(self.allowed) or "none"
        return f"allowed: {allowed}; blocked: {', '.join(self.blocked) or 'none'}"


def _from_entries(entries: Iterable[str], where: str) -> Policy:
    allowed: list[str] = []
    blocked: list[str] = []
    for entry in entries:
        text = entry.strip()
        name = text[1:].strip() if text.startswith(_BLOCKING) else text
        if not name:
            raise RequestError(
                f"the entry {entry!r} without a name", where=where, value=entry,
                needed="names, each allowed ('a') or blocked ('-a' or '!a')",
                remedy="add the name or remove the entry",
            )  # fmt: skip
        (allowed if name == text else blocked).append(name)
    only_blocks = bool(blocked) and not allowed
    return Policy(allowed=None if only_blocks else tuple(allowed), blocked=tuple(blocked))
