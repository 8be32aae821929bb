"""Converts every value to JSON and back, and computes its digest."""

from __future__ import annotations

import enum
import hashlib
import json
import typing
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn

from quanthost.errors import ValueCheckError
from quanthost.values.qspec import AnyQSpec, DerivedQSpec, FixedQSpec, QSpec, SharedQSpec

__all__ = ["digest", "from_data", "from_json", "to_data", "to_json"]

_T = TypeVar("_T")
_TAG = "kind"
_TAGS = {QSpec: "own", FixedQSpec: "fixed", DerivedQSpec: "derived", SharedQSpec: "shared"}
_OPTION = str | int | float | bool


def _refuse(data: object, needed: str) -> NoReturn:
    raise ValueCheckError(
        f"{data!r} of type {type(data).__name__}", needed=needed, remedy=f"write {needed}", value=data
    )  # fmt: skip


def _exactly(*kinds: type) -> Callable[[Any, Any], Any]:
    """Accept data of exactly these types, without conversion."""
    names = " or ".join(kind.__name__ for kind in kinds)

    def structure(data: Any, _: Any) -> Any:
        return data if type(data) in kinds else _refuse(data, names)

    return structure


def _structure_float(data: Any, _: Any) -> float:
    return float(data) if type(data) in (int, float) else _refuse(data, "float")


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, unstruct_collection_overrides={tuple: list})
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook(_OPTION, _exactly(str, int, float, bool))
    converter.register_structure_hook(_OPTION | None, _exactly(str, int, float, bool, type(None)))
    items: Any = converter.get_structure_hook(tuple[str, ...])

    def structure_tuple(data: Any, kind: Any) -> Any:
        return items(data, kind) if isinstance(data, (list, tuple)) else _refuse(data, "list")

    converter.register_structure_hook_func(_is_tuple, structure_tuple)
    converter.register_structure_hook_factory(attrs.has, _structure_fields)
    _tag_qspecs(converter)
    return converter


def _is_tuple(kind: Any) -> bool:
    origin: Any = typing.get_origin(kind)
    return origin is tuple


def _structure_fields(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    structure: Any = make_dict_structure_fn(kind, converter)

    def check_and_structure(data: Any, _: Any) -> Any:
        if not isinstance(data, dict):
            _refuse(data, f"the fields of {kind.__name__}")
        return structure(data, kind)

    return check_and_structure


def _tag_qspecs(converter: cattrs.Converter) -> None:
    """Add the kind of qspec to fields that may have any kind."""
    kinds = {tag: kind for kind, tag in _TAGS.items()}

    def structure(data: Any, _: Any) -> Any:
        if data is None:
            return None
        fields = dict(data) if isinstance(data, dict) else _refuse(data, "the fields of a qspec")
        tag = fields.pop(_TAG, None)
        if not isinstance(tag, str) or tag not in kinds:
            _refuse(tag, f"one of {', '.join(kinds)} as {_TAG!r}")
        return converter.structure(fields, kinds[tag])

    def unstructure(value: Any) -> Any:
        return None if value is None else {_TAG: _TAGS[type(value)], **converter.unstructure(value)}

    for field_type in (AnyQSpec, AnyQSpec | None):
        converter.register_structure_hook(field_type, structure)
        converter.register_unstructure_hook(field_type, unstructure)


_CONVERTER = _make_converter()


def _explain(error: BaseException, kind: type | None) -> str:
    if isinstance(error, ValueCheckError):
        return f"{error.where}: " * bool(error.where) + f"{error.seen}, needed {error.needed}"
    if isinstance(error, ValueError) and isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "needed one of " + ", ".join(str(member.value) for member in kind)
    return cattrs.v.format_exception(error, kind)


def to_data(value: Any) -> Any:
    """Convert a value to lists, dictionaries, strings and numbers."""
    return _CONVERTER.unstructure(value)


def from_data(kind: type[_T], data: Any, *, where: str = "JSON") -> _T:
    """Build a value of that kind; a ``ValueCheckError`` names each field that does not fit."""
    try:
        return _CONVERTER.structure(data, kind)
    except (cattrs.BaseValidationError, ValueCheckError) as error:
        problems = "; ".join(cattrs.transform_error(error, format_exception=_explain))
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
            remedy="check that the file is complete", value=text[:200],
        ) from error  # fmt: skip
    return from_data(kind, data, where=where)


def digest(value: Any) -> str:
    """``sha256:`` and 64 hexadecimal digits of the canonical JSON; equal values have equal digests."""
    return "sha256:" + hashlib.sha256(to_json(value).encode()).hexdigest()
