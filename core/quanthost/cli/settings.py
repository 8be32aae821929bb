"""What ``quantize`` is asked to do: options of the command line over those of a configuration file."""

from __future__ import annotations

import difflib
import enum
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from quanthost.cli.exits import UsageError
from quanthost.cli.references import is_reference
from quanthost.errors import ValueCheckError
from quanthost.values import Override, from_data

__all__ = ["Report", "Settings", "merge", "parse_options", "parse_override", "parse_report", "read_config"]

Option = str | int | float | bool
_OVERRIDE_FIELDS = tuple(field.name for field in attrs.fields(Override))
_QSPEC_FIELDS = ("activation", "weight", "bias")
# what --override can say; qspecs have too many parts for one line
_INLINE_FIELDS = tuple(name for name in _OVERRIDE_FIELDS if name not in _QSPEC_FIELDS)
_TRUTH = {"true": True, "false": False}


class Report(enum.Enum):
    """What ``quantize`` writes to stdout when it is done."""

    TABLE = "table"
    JSON = "json"
    NONE = "none"


@attrs.frozen(kw_only=True)
class Settings:
    """All that ``quantize`` needs; ``None`` and empty where nothing was said."""

    model: str
    backend: tuple[str, ...] = attrs.field(converter=tuple)
    output: Path = attrs.field(converter=Path)
    inputs: str | None = None
    recipe: str | None = None
    calibration: str | None = None
    statistics: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    override: tuple[Override, ...] = attrs.field(default=(), converter=tuple)
    set: dict[str, Option] = attrs.field(factory=dict)
    force: bool = False
    report: Report = Report.TABLE
    representation: str = "qdq"
    arithmetic: str | None = None
    io: str = "float"
    placement: str = "cost"
    optimize_for: str = "accuracy"
    costs: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    cache: bool | None = None


_TEXTS = (
    *("model", "inputs", "recipe", "calibration", "statistics", "output"),
    *("representation", "arithmetic", "io", "placement", "optimize_for", "costs"),
)
_KEYS = {
    **dict.fromkeys((*_TEXTS, "report"), (str,)),
    "backend": (str, list), "set": (dict,), "force": (bool,), "cache": (bool,),
}  # fmt: skip
_REQUIRED = {
    "model": "the argument MODEL",
    "backend": "--backend",
    "output": "--output",
}


def merge(typed: Mapping[str, Any], stored: Mapping[str, Any]) -> Settings:
    """The settings of both; what was typed wins, and its overrides come first, so that they match first.

    Raises:
        UsageError: a setting is missing from both.
    """
    given = {key: value for key, value in typed.items() if value not in (None, (), {}, [])}
    merged = {**stored, **given}
    merged["set"] = {**stored.get("set", {}), **given.get("set", {})}
    merged["override"] = (*given.get("override", ()), *stored.get("override", ()))
    for key, option in _REQUIRED.items():
        if key not in merged:
            raise UsageError(
                f"no {key}", needed=option, where="command line and configuration file",
                remedy=f"type {option}, or write {key} into [quantize] of the file",
            )  # fmt: skip
    return Settings(**merged)


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a TOML file with a table ``[quantize]`` and tables ``[[override]]``.

    Relative paths in it are relative to its folder.

    Raises:
        UsageError: the file cannot be read, or holds a key or a type that is not known.
    """
    data = _parse(path)
    _check_keys(data, ("quantize", "override"), where=str(path))
    table, rules = data.get("quantize", {}), data.get("override", [])
    _check_type("quantize", table, (dict,), where=str(path))
    _check_type("override", rules, (list,), where=str(path))
    where = f"[quantize] of {path}"
    _check_keys(table, tuple(_KEYS), where=where)
    for key, value in table.items():
        _check_type(key, value, _KEYS[key], where=where)
    found: dict[str, Any] = {key: _relocated(key, value, path.parent) for key, value in table.items()}
    if "backend" in found:
        found["backend"] = _backends(found["backend"], where)
    if "report" in found:
        found["report"] = parse_report(found["report"], where=where)
    for name, value in found.get("set", {}).items():
        _check_type(f"set.{name}", value, (str, int, float, bool), where=where)
    found["override"] = [
        _stored_override(rule, where=f"[[override]] number {number} of {path}")
        for number, rule in enumerate(rules, start=1)
    ]
    return found


def parse_override(text: str) -> Override:
    """``"module_name=head.*,keep_float=true"``: fields of an override, except for qspecs."""
    where = f"--override {text!r}"
    fields: dict[str, Any] = {}
    for part in text.split(","):
        key, value = _assignment(part, where)
        _check_keys({key: value}, _INLINE_FIELDS, where=where)
        fields[key] = _truth(value, where) if key == "keep_float" else value
    try:
        return Override(**fields)
    except ValueCheckError as error:
        raise UsageError(error.seen, needed=error.needed, where=where, remedy=error.remedy) from error


def parse_options(texts: Iterable[str]) -> dict[str, Option]:
    """``"name=value"`` each; a value is a truth value (``true``), an integer, a number or else a string."""
    return {key: _scalar(value) for key, value in (_assignment(text, f"--set {text!r}") for text in texts)}


def parse_report(value: str, *, where: str) -> Report:
    """``"table"``, ``"json"`` or ``"none"``."""
    kinds = [kind.value for kind in Report]
    if value not in kinds:
        raise UsageError(
            f"the report {value!r}", needed=f"one of {', '.join(kinds)}", where=where,
            remedy="correct it", value=value,
        )  # fmt: skip
    return Report(value)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        seen, remedy = f"{path}: {error.strerror}", "correct the path"
        raise UsageError(seen, needed="a file", where="--config", remedy=remedy, value=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: {error}", needed="TOML", where="--config", remedy="correct that line", value=path
        ) from error


def _check_keys(found: Mapping[str, Any], known: Sequence[str], *, where: str) -> None:
    for key in found:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1)
        raise UsageError(
            f"the key {key!r}", needed=f"one of {', '.join(known)}", where=where, value=key,
            remedy=f"write {near[0]}" if near else "remove it",
        )  # fmt: skip


def _check_type(key: str, value: Any, kinds: tuple[type, ...], *, where: str) -> None:
    # TOML has distinct truth values, and True would pass for an int
    if type(value) in kinds:
        return
    names = {str: "a string", list: "a list", dict: "a table", bool: "true or false", int: "an integer"}
    raise UsageError(
        f"{key} = {value!r}", needed=" or ".join(names.get(kind, "a number") for kind in kinds),
        where=where, remedy=f"correct {key}", value=value,
    )  # fmt: skip


def _backends(value: str | list[Any], where: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    for name in names:
        _check_type("backend", name, (str,), where=where)
    return tuple(names)


def _relocated(key: str, value: Any, folder: Path) -> Any:
    """Paths, and references to files, as seen from the current folder."""
    if key in ("output", "statistics", "costs"):
        return str(folder / value)
    if key == "calibration" and not is_reference(value):
        return str(folder / value)
    if key in ("model", "inputs", "calibration") and value.rpartition(":")[0].endswith(".py"):
        return str(folder / value)
    return value


def _stored_override(rule: Any, *, where: str) -> Override:
    _check_type("override", rule, (dict,), where=where)
    _check_keys(rule, _OVERRIDE_FIELDS, where=where)
    for name in _QSPEC_FIELDS:
        if isinstance(rule.get(name), dict):
            rule = {**rule, name: {"kind": "own", **rule[name]}}
    try:
        return from_data(Override, rule, where=where)
    except ValueCheckError as error:
        raise UsageError(error.seen, needed=error.needed, where=where, remedy=error.remedy) from error


def _assignment(text: str, where: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals):
        raise UsageError(
            f"{text!r}", needed="name=value", where=where, remedy="write the name, =, and the value"
        )
    return key, value


def _truth(text: str, where: str) -> bool:
    if text not in _TRUTH:
        raise UsageError(
            f"keep_float={text}", needed="true or false", where=where, remedy="correct it", value=text
        )
    return _TRUTH[text]


def _scalar(text: str) -> Option:
    if text in _TRUTH:
        return _TRUTH[text]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    return text
