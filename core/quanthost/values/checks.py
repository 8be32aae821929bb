"""Converters and validators for attrs fields; a validator raises ``ValueCheckError`` and names the field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from quanthost.errors import ValueCheckError

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_Validator = Callable[[Any, Any, Any], None]


def as_tuple(value: Iterable[Any]) -> tuple[Any, ...]:
    """Convert a collection to a tuple; leave a string or anything else for the validator to refuse."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        return value  # type: ignore[return-value]  # the field's validator refuses it
    return tuple(value)


def as_pairs(value: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    """Convert a mapping or a collection of pairs to pairs; leave anything else for the validator."""
    pairs = as_tuple(value.items() if isinstance(value, Mapping) else value)
    if not isinstance(pairs, tuple):
        return pairs
    return tuple(as_tuple(pair) for pair in pairs)


def as_float(value: float) -> float:
    """Convert a number to a float, so that equal values have equal digests; leave others as they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    # -0.0 equals 0.0 but has another JSON text
    return float(value) + 0.0


def refuse(owner: object, field: str, seen: str, *, needed: str, remedy: str, value: Any = None) -> None:
    """Raise the error for one field of a value."""
    raise ValueCheckError(
        seen, needed=needed, remedy=remedy, where=f"{type(owner).__name__}.{field}", value=value
    )


def identifier() -> _Validator:
    """Accept lower-case letters, digits and underscores, starting with a letter."""

    def check(owner: object, attribute: Any, value: Any) -> None:
        if not (isinstance(value, str) and _NAME.match(value)):
            refuse(
                owner, attribute.name, f"the name {value!r}",
                needed="lower-case letters, digits and underscores, starting with a letter",
                remedy="rename it, for example to 'my_npu'", value=value,
            )  # fmt: skip

    return check


def kind(*types: type, optional: bool = False) -> _Validator:
    """Accept instances of the types; ``bool`` does not count as ``int``."""
    names = " or ".join(t.__name__ for t in types) + (" or None" if optional else "")

    def check(owner: object, attribute: Any, value: Any) -> None:
        if optional and value is None:
            return
        if isinstance(value, types) and not (isinstance(value, bool) and bool not in types):
            return
        refuse(
            owner, attribute.name, f"{value!r} of type {type(value).__name__}",
            needed=names, remedy=f"pass {names}", value=value,
        )  # fmt: skip

    return check


def between(low: float, high: float) -> _Validator:
    """Accept numbers in the closed interval, and ``None``."""

    def check(owner: object, attribute: Any, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
            return
        refuse(
            owner, attribute.name, f"{value!r}", needed=f"a number from {low} to {high}",
            remedy="choose a value in that range", value=value,
        )  # fmt: skip

    return check


def each(item: _Validator) -> _Validator:
    """Accept a tuple if every element passes."""

    def check(owner: object, attribute: Any, value: Any) -> None:
        if not isinstance(value, tuple):
            refuse(
                owner, attribute.name, f"{value!r} of type {type(value).__name__}", needed="a tuple",
                remedy="pass a tuple or a list", value=value,
            )  # fmt: skip
        for element in value:
            item(owner, attribute, element)

    return check


def pair(item: _Validator) -> _Validator:
    """Accept a name with a value that passes."""

    def check(owner: object, attribute: Any, value: Any) -> None:
        if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)):
            refuse(
                owner, attribute.name, f"{value!r}", needed="a name with its value",
                remedy="pass a dictionary", value=value,
            )  # fmt: skip
        item(owner, attribute, value[1])

    return check
