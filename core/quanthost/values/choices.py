"""Converts text to a member of an enum; the error lists the choices and the nearest one."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable
from typing import TypeVar

from quanthost.errors import RequestError

__all__ = ["choose", "nearest"]

_E = TypeVar("_E", bound=enum.Enum)


def choose(
    kind: type[_E],
    value: _E | str,
    name: str,
    *,
    where: str | None = None,
    error: type[RequestError] = RequestError,
) -> _E:
    """The enum member with a value; a member is returned unchanged.

    Args:
        kind: The enum.
        value: A member, or the value of one.
        name: The argument, option or key that the value was given for.
        where: Its place, if the name alone is not enough.
        error: What is raised.

    Raises:
        RequestError: no member has that value.
    """
    if isinstance(value, kind):
        return value
    members: dict[object, _E] = {member.value: member for member in kind}
    if isinstance(value, str) and value in members:
        return members[value]
    choices = [str(choice) for choice in members]
    close = nearest(str(value), choices)
    raise error(
        f"{name}={value!r}", needed=f"one of {', '.join(choices)}", where=where, value=value,
        remedy="choose one of these" if close is None else f"write {close}",
    )  # fmt: skip


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant: the first that the name begins, else the most similar one."""
    names = list(known)
    longer = [each for each in names if name and each.startswith(name)]
    return next(iter(longer or difflib.get_close_matches(name, names, n=1)), None)
