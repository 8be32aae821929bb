"""The public API as text, one line for each name, parameter, field, member and hook: what a review looks at.

``--write`` records it in ``docs/reference/public-api.txt``; without, it is compared with the record. The
sources are read with griffe. A name that two modules export is described once, at the first of them.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

from quanthost.exports import exported_names

__all__ = ["FILE", "compare", "public_api"]

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "reference" / "public-api.txt"
MODULES = ("quanthost", "quanthost.inspection", "quanthost.api", "quanthost.testing")
HOOKS = "quanthost.hooks.specs"
_VERSION = "quanthost.host.api_range.API_VERSION"
_HEAD = "What quanthost promises. Written by scripts/public_api.py --write; see api-policy.md.\n"


def public_api(sources: Path = ROOT / "core") -> str:
    """The text for the sources below a folder."""
    extensions = griffe.load_extensions(str(ROOT / "docs" / "griffe_values.py"))
    package = griffe.load("quanthost", search_paths=[sources], extensions=extensions, resolve_aliases=True)
    version = str(package[_VERSION.removeprefix("quanthost.")].value).strip("'\"")
    lines = [_HEAD, f"plugin API {version}\n"]
    first: dict[str, str] = {}
    for name in MODULES:
        module = package if name == "quanthost" else package[name.removeprefix("quanthost.")]
        lines.append(f"module {name}")
        for member in sorted(exported_names(module.source)):
            if member in first:
                lines.append(f"  {member}: as in {first[member]}")
            else:
                lines.extend(_indented(_described(member, module[member])))
            first.setdefault(member, name)
        lines.append("")
    lines.append(f"hooks ({HOOKS})")
    for function in package[HOOKS.removeprefix("quanthost.")].functions.values():
        if "hookspec" in "".join(str(decorator.value) for decorator in function.decorators):
            lines.extend(_indented(_described(function.name, function)))
    return "\n".join(lines).rstrip() + "\n"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _described(name: str, found: griffe.Object | griffe.Alias) -> Iterator[str]:
    target = found.final_target if isinstance(found, griffe.Alias) else found
    if isinstance(target, griffe.Class):
        yield from _class(name, target)
    elif isinstance(target, griffe.Function):
        yield f"{name}() -> {target.returns}"
        yield from _indented(_parameters(target))
    elif isinstance(target, griffe.Attribute):
        kind = "" if target.annotation is None else f": {target.annotation}"
        yield f"{name}{kind} = {target.value}"
    else:
        yield f"{name}: {target.kind.value}"


def _class(name: str, cls: griffe.Class) -> Iterator[str]:
    bases = ", ".join(map(str, cls.bases))
    yield f"class {name}({bases})" if bases else f"class {name}"
    if any(str(base).endswith("Enum") for base in cls.bases):
        yield from (f"  {member.name} = {member.value}" for member in _attributes(cls))
    elif "__init__" in cls.members:
        yield from _indented(_parameters(cls["__init__"]))
    else:
        yield from (f"  {field.name}: {field.annotation}" for field in _attributes(cls))
    for member in cls.members.values():
        if member.name.startswith("_") or member.is_alias:
            continue
        if isinstance(member, griffe.Attribute) and "property" in member.labels:
            yield f"  .{member.name}: {member.annotation}"
        elif isinstance(member, griffe.Function):
            yield from _indented(_described(f".{member.name}", member))


def _attributes(cls: griffe.Class) -> Iterator[griffe.Attribute]:
    for member in cls.members.values():
        plain = isinstance(member, griffe.Attribute) and "property" not in member.labels
        if plain and not member.name.startswith("_"):
            yield member


def _parameters(function: griffe.Function) -> Iterator[str]:
    by_name = griffe.ParameterKind.keyword_only
    marks = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
    previous = None
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is by_name and previous not in (by_name, griffe.ParameterKind.var_positional):
            yield "*"
        previous = parameter.kind
        kind = "" if parameter.annotation is None else f": {parameter.annotation}"
        default = "" if parameter.required else f" = {parameter.default}"
        yield f"{marks.get(parameter.kind, '')}{parameter.name}{kind}{default}"


def compare(recorded: str, found: str) -> str:
    """What changed, with what that asks for; empty where nothing did."""
    lines = list(
        difflib.unified_diff(recorded.splitlines(), found.splitlines(), "recorded", "now", lineterm="")
    )
    if not lines:
        return ""
    gone = any(line.startswith("-") and not line.startswith("---") for line in lines)
    told = (
        "Lines are gone or changed: mostly a break. Deprecate the old form, or raise the major version."
        if gone
        else "Lines were added: raise the minor version of the plugin API if plugins may use them."
    )
    asked = "docs/reference/api-policy.md says what each asks for. To record it: make api"
    return "\n".join((*lines, "", told, asked))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="record the API as it is")
    asked = parser.parse_args()
    found = public_api()
    if asked.write:
        FILE.write_text(found, encoding="utf-8")
        return 0
    changed = compare(FILE.read_text(encoding="utf-8") if FILE.exists() else "", found)
    print(changed, end="\n" if changed else "")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
