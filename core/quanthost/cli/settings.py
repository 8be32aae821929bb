"""The configuration file, the texts of options, and typed settings over those of the file."""

from __future__ import annotations

import enum
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from quanthost.cli.references import is_reference
from quanthost.cli.usage import UsageError
from quanthost.errors import ValueCheckError
from quanthost.values import Io, Objective, Override, Placement, Representation, Toolchain, from_data
from quanthost.values.choices import choose, nearest
from quanthost.values.request import Option

__all__ = [
    "FIELDS",
    "Report",
    "merge",
    "parse_options",
    "parse_override",
    "read_config",
    "require",
]


class Report(enum.Enum):
    """What ``quantize`` writes to stdout when it is done."""

    TABLE = "table"
    JSON = "json"
    NONE = "none"


# settings whose names are not those of the fields of Target
FIELDS = {"override": "overrides", "set": "options"}
_CHOICES: dict[str, type[enum.Enum]] = {
    "placement": Placement, "optimize_for": Objective, "toolchain": Toolchain,
    "representation": Representation, "io": Io, "report": Report,
}  # fmt: skip
_PATHS = ("output", "statistics", "costs")
_REFERENCES = ("model", "inputs", "dynamic_shapes", "calibration")
# the keys of [quantize], with the types that TOML may give them
_KEYS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys((*_REFERENCES, *_PATHS, "recipe", "arithmetic", *_CHOICES), (str,)),
    "backend": (str, list), "set": (dict,),
    **dict.fromkeys(("force", "cache", "allow_missing_kernels"), (bool,)),
}  # fmt: skip
_OVERRIDE_FIELDS = tuple(field.name for field in attrs.fields(Override))
_QSPEC_FIELDS = ("activation", "weight", "bias")
# what --override can say; qspecs have too many parts for one line
_INLINE_FIELDS = tuple(name for name in _OVERRIDE_FIELDS if name not in _QSPEC_FIELDS)
_TRUTH = {"true": True, "false": False}


def merge(typed: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Typed settings over stored ones, without those that are unset (``None`` or an empty collection).

    Options of the backend are merged one by one; typed overrides come first, so that they match first.

    Raises:
        UsageError: a typed choice does not exist.
    """
    values = {key: value for key, value in typed.items() if value not in (None, (), [], {})}
    for key in values.keys() & _CHOICES.keys():
        values[key] = _choice(key, values[key], where=f"--{key.replace('_', '-')}")
    merged = {**stored, **values}
    if "set" in stored and "set" in values:
        merged["set"] = {**stored["set"], **values["set"]}
    if "override" in stored and "override" in values:
        merged["override"] = [*values["override"], *stored["override"]]
    return merged


def require(settings: Mapping[str, Any], **options: str) -> None:
    """Refuse settings without a key; each keyword is a key, with the option or argument that sets it.

    Raises:
        UsageError: a setting is missing.
    """
    for key, option in options.items():
        if key not in settings:
            raise UsageError(
                f"no {key}", needed=option, where="command line and configuration file",
                remedy=f"type {option}, or write {key} into [quantize] of the file",
            )  # fmt: skip


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a TOML file with a table ``[quantize]`` and tables ``[[override]]``.

    Relative paths in it are relative to its folder.

    Raises:
        UsageError: the file cannot be read, or holds an unknown key or choice, or a wrong type.
    """
    data = _parse(path)
    _check_keys(data, ("quantize", "override"), where=str(path))
    table, rules = data.get("quantize", {}), data.get("override", [])
    _check_type("quantize", table, (dict,), where=str(path))
    _check_type("override", rules, (list,), where=str(path))
    where = f"[quantize] of {path}"
    _check_keys(table, tuple(_KEYS), where=where)
    settings = {key: _read_value(key, value, path.parent, where) for key, value in table.items()}
    overrides = [
        _read_override(rule, where=f"[[override]] number {number} of {path}")
        for number, rule in enumerate(rules, start=1)
    ]
    return {**settings, "override": overrides} if overrides else settings


def parse_override(text: str) -> Override:
    """``"module_name=head.*,keep_float=true"``: fields of an override, except for qspecs."""
    where = f"--override {text!r}"
    fields: dict[str, Any] = {}
    for part in text.split(","):
        key, value = _assignment(part, where)
        _check_keys({key: value}, _INLINE_FIELDS, where=where)
        if " " in value:
            words = text.replace(",", " ").split()
            raise UsageError(
                f"a space in {value!r}", needed="fields separated by commas", where=where, value=text,
                remedy=f"write {','.join(words)}" if all("=" in word for word in words)
                else "remove the space",
            )  # fmt: skip
        fields[key] = _truth(value, where) if key == "keep_float" else value
    return _override(lambda: Override(**fields), where)


def parse_options(texts: Iterable[str]) -> dict[str, Option]:
    """``"name=value"`` each; a value is a truth value (``true``), an integer, a number or else a string."""
    return {key: _scalar(value) for key, value in (_assignment(text, f"--set {text!r}") for text in texts)}


def _choice(key: str, value: str, *, where: str) -> enum.Enum:
    return choose(_CHOICES[key], value, key, where=where, error=UsageError)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem, needed, remedy = f"{path}: {error.strerror}", "a file", "correct the path"
        raise UsageError(problem, needed=needed, where="--config", remedy=remedy, value=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: {error}", needed="TOML", where="--config", remedy="correct that line", value=path
        ) from error


def _check_keys(settings: Mapping[str, Any], known: Sequence[str], *, where: str) -> None:
    for key in settings:
        if key in known:
            continue
        close = nearest(key, known)
        raise UsageError(
            f"the key {key!r}", needed=f"one of {', '.join(known)}", where=where, value=key,
            remedy="remove it" if close is None else f"write {close}",
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


def _read_value(key: str, value: Any, folder: Path, where: str) -> Any:
    """Check a value of [quantize]; make file paths and references relative to the current folder."""
    _check_type(key, value, _KEYS[key], where=where)
    if key == "backend":
        names = [value] if isinstance(value, str) else value
        for name in names:
            _check_type(key, name, (str,), where=where)
        return names
    if key == "set":
        for name, option in value.items():
            _check_type(f"set.{name}", option, (str, int, float, bool), where=where)
    if key in _CHOICES:
        return _choice(key, value, where=where)
    if key in _PATHS:
        return folder / value
    is_file = key == "calibration" and not is_reference(value)
    if is_file or (key in _REFERENCES and value.rpartition(":")[0].endswith(".py")):
        return str(folder / value)
    return value


def _read_override(rule: Any, *, where: str) -> Override:
    _check_type("override", rule, (dict,), where=where)
    _check_keys(rule, _OVERRIDE_FIELDS, where=where)
    for name in _QSPEC_FIELDS:
        if isinstance(rule.get(name), dict):
            rule = {**rule, name: {"kind": "own", **rule[name]}}
    return _override(lambda: from_data(Override, rule, where=where), where)


def _override(make: Callable[[], Override], where: str) -> Override:
    try:
        return make()
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
