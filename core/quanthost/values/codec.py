"""JSON round trip and stable digest of every value."""

from __future__ import annotations

import enum
import hashlib
import json
from typing import Any, TypeVar

import cattrs
from cattrs.strategies import configure_tagged_union

from quanthost.errors import ValueCheckError
from quanthost.values.qspec import AnyQSpec, DerivedQSpec, FixedQSpec, QSpec, SharedQSpec

__all__ = ["digest", "from_json", "to_data", "to_json"]

_T = TypeVar("_T")
_TAGS = {QSpec: "own", FixedQSpec: "fixed", DerivedQSpec: "derived", SharedQSpec: "shared"}


def _scalar(value: object, _: object) -> object:
    if isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"an option must be a string, number or truth value, not {value!r}")


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, unstruct_collection_overrides={tuple: list})
    configure_tagged_union(AnyQSpec, converter, tag_generator=lambda cls: _TAGS[cls], tag_name="kind")
    converter.register_structure_hook(str | int | float | bool, _scalar)
    return converter


_CONVERTER = _make_converter()


def to_data(value: Any) -> Any:
    """Plain lists, dictionaries, strings and numbers."""
    return _CONVERTER.unstructure(value)


def from_data(kind: type[_T], data: Any, *, where: str = "JSON") -> _T:
    """The value of that kind; a ``ValueCheckError`` names each field that does not fit."""
    try:
        return _CONVERTER.structure(data, kind)
    except cattrs.BaseValidationError as error:
        problems = "; ".join(cattrs.transform_error(error))
        raise ValueCheckError(
            f"{kind.__name__} that does not fit: {problems}",
            needed=f"the fields of {kind.__name__}", where=where,
            remedy="correct the fields named above", value=data,
        ) from error  # fmt: skip


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Canonical JSON text: keys sorted, no NaN."""
    return json.dumps(
        to_data(value), sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False,
        default=_fallback,
    )  # fmt: skip


def _fallback(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")


def from_json(kind: type[_T], text: str, *, where: str = "JSON") -> _T:
    """The inverse of ``to_json``."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueCheckError(
            f"text that is not JSON: {error}", needed="a JSON document", where=where,
            remedy="check that the file is whole", value=text[:200],
        ) from error  # fmt: skip
    return from_data(kind, data, where=where)


def digest(value: Any) -> str:
    """``sha256:`` and 64 hexadecimal digits over the canonical JSON; equal values, equal digests."""
    return "sha256:" + hashlib.sha256(to_json(value).encode()).hexdigest()
