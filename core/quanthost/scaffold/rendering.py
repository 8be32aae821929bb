"""The files of a new backend, rendered from the templates of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

import jinja2

from quanthost.host.api_range import API_VERSION
from quanthost.scaffold.plan import Kind, Plan

__all__ = ["render"]

# the folders of templates that make up a backend; their files do not overlap
_FOLDERS = {
    Kind.DELEGATE: ("common", "table", "delegate"),
    Kind.PORTABLE: ("common", "table", "portable"),
    Kind.WRAP: ("common", "wrap"),
}
_RECIPES = {Kind.WRAP: ("int8_static",)}
_SUMMARIES = {
    Kind.DELEGATE: "Convolutions in int8 on a delegate",
    Kind.PORTABLE: "Convolutions in int8 on portable kernels",
    Kind.WRAP: "An existing quantizer and partitioner",
}
_TABLE_FILES = (
    ("table.py", "the rows: what your target supports"),
    ("constraints.py", "under which conditions"),
    ("recipes.py", "in which integers"),
)
_REPLACED = {
    Kind.DELEGATE: (
        *_TABLE_FILES,
        ("delegate.py", "your compiler, and your simulator or nothing"),
        ("backend.py", "little: what ties the others together"),
    ),
    Kind.PORTABLE: (*_TABLE_FILES, ("backend.py", "little: what ties the others together")),
    Kind.WRAP: (
        ("wrapped.py", "how the quantizer and the partitioner are configured"),
        ("recipes.py", "what the recipe says of itself"),
        ("backend.py", "little: what ties the others together"),
    ),
}
_SUFFIX = ".j2"
# setuptools leaves hidden folders out of packages, and tools would take templates for what they make
_HIDDEN = "dot-"
_PACKAGE = "PACKAGE"
_WIDTH = 110


def render(plan: Plan) -> dict[str, str]:
    """Text by path inside the distribution, which begins with no separator."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["imported"] = _import_lines
    values = {
        "name": plan.name, "package": plan.package, "distribution": plan.distribution,
        "class_name": plan.class_name, "runtime": plan.runtime, "wrapped": plan.wrapped,
        "profile": {"name": plan.profile.name, "constant": plan.profile.name.upper()},
        "summary": _SUMMARIES[plan.kind], "recipes": _RECIPES.get(plan.kind, ("int8_static", "fp32")),
        "files": _REPLACED[plan.kind], "host": _host(), "untyped": _untyped(plan),
    }  # fmt: skip
    root = files("quanthost.scaffold") / "templates"
    made: dict[str, str] = {}
    for folder in _FOLDERS[plan.kind]:
        for path, template in _walk(root / folder):
            made[_target(path, plan)] = environment.from_string(template).render(values)
    return made


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of each template below a folder, sorted."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{path}/")
        elif path.endswith(_SUFFIX):
            yield path, entry.read_text(encoding="utf-8")


def _target(path: str, plan: Plan) -> str:
    parts = path.removesuffix(_SUFFIX).split("/")
    parts = [f".{part.removeprefix(_HIDDEN)}" if part.startswith(_HIDDEN) else part for part in parts]
    return "/".join(plan.package if part == _PACKAGE else part for part in parts)


def _host() -> dict[str, object]:
    """The range of hosts that a backend made with this one works with."""
    major, minor = (int(part) for part in version("quanthost").split(".")[:2])
    api = int(str(API_VERSION).partition(".")[0])
    return {"minimum": f"{major}.{minor}", "next": f"{major}.{minor + 1}", "api": api}


def _untyped(plan: Plan) -> list[str]:
    """Packages without types that the generated code imports."""
    found = {"executorch"}
    if plan.wrapped is not None:
        found |= {
            "torchao",
            *(each[0].partition(".")[0] for each in (plan.wrapped.quantizer, plan.wrapped.partitioner)),
        }
    return [f"{name}.*" for name in sorted(found)]


def _import_lines(module: str, names: list[str], indent: int = 0) -> str:
    """An import as ruff formats it, one name a line where a single line is too long."""
    space = " " * indent
    line = f"{space}from {module} import {', '.join(names)}"
    if len(line) <= _WIDTH:
        return line
    inner = f"{space}    {', '.join(names)}"
    if len(inner) <= _WIDTH and len(names) == 1:
        return f"{space}from {module} import (\n{inner},\n{space})"
    listed = "".join(f"{space}    {name},\n" for name in names)
    return f"{space}from {module} import (\n{listed}{space})"
