"""Reads a plugin's static manifest without importing the plugin, and checks it against the code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from quanthost.errors import ApiVersionError, DiscoveryError, ManifestError, ValueCheckError
from quanthost.host.api_range import API_VERSION, admits
from quanthost.host.module_files import package_folders
from quanthost.values.manifest import Manifest

if TYPE_CHECKING:
    from quanthost.values import BackendInfo

__all__ = ["FILE", "check_manifest", "read"]

FILE = "quanthost.toml"
_FIELDS = attrs.fields_dict(Manifest)


def read(module: str, *, plugin: str) -> tuple[Manifest | None, DiscoveryError | None]:
    """The manifest of the plugin whose entry point names that module, and its first problem."""
    try:
        path = _find(module, plugin)
        data = _parse(path, plugin)
    except ManifestError as error:
        return None, error
    # the range is checked first: a manifest for another API may have fields that are unknown here
    problem = _api_problem(data.get("api"), path, plugin)
    try:
        return _build(data, path, plugin), problem
    except ManifestError as error:
        return None, error if problem is None else problem


def check_manifest(manifest: Manifest, info: BackendInfo) -> None:
    """Refuse a manifest whose name or recipes differ from what ``quanthost_backend_info`` returned."""
    sides = (
        ("name", manifest.name, info.name),
        ("recipes", ", ".join(sorted(manifest.recipes)), ", ".join(sorted(r.name for r in info.recipes))),
    )
    for field, stated, coded in sides:
        if stated == coded:
            continue
        raise ManifestError(
            f"the {field} [{stated}] in the manifest and [{coded}] in the code", plugin=manifest.name,
            needed=f"the same {field} on both sides", value=stated,
            where=f"{FILE} and quanthost_backend_info, field {field}",
            remedy=f"correct {field} in {FILE} or in the BackendInfo",
        )  # fmt: skip


def _find(module: str, plugin: str) -> Path:
    """The manifest nearest to the module: in its own package, else in a package around that one.

    The search follows the import system, so that the manifest belongs to the code that would run, in a
    wheel install and in an editable one.
    """
    folders = package_folders(module)
    for folder in folders:
        if (folder / FILE).is_file():
            return folder / FILE
    raise ManifestError(
        f"no {FILE} for the module {module!r}", plugin=plugin, value=module,
        needed=f"a manifest named {FILE} in the plugin's package",
        where=", ".join(map(str, folders)) or f"no package {module.partition('.')[0]!r} on sys.path",
        remedy="write one and ship it, with setuptools: "
        f"[tool.setuptools.package-data] '*' = ['{FILE}']",
    )  # fmt: skip


def _parse(path: Path, plugin: str) -> dict[str, Any]:
    """The file's fields, not yet checked."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"a manifest that cannot be read: {error}", needed="a TOML document in UTF-8",
            where=str(path), plugin=plugin, remedy="correct the file",
        ) from error  # fmt: skip


def _api_problem(api: object, path: Path, plugin: str) -> DiscoveryError | None:
    if not isinstance(api, str):
        return None
    try:
        if admits(api):
            return None
    except ValueError:
        return _refusal(
            f"{api!r}", "a PEP 440 version range", "api", path, plugin, remedy="write for example '>=1,<2'"
        )
    return ApiVersionError(
        f"the plugin {plugin!r}, made for the plugin API {api}", value=api, plugin=plugin,
        needed=f"a range that contains {API_VERSION}, the plugin API of this quanthost",
        where=f"{path}, field api",
        remedy="install versions of the plugin and of quanthost that go together",
    )  # fmt: skip


def _build(data: Mapping[str, Any], path: Path, plugin: str) -> Manifest:
    for name in data:
        if name not in _FIELDS:
            needed = "one of the fields " + ", ".join(_FIELDS)
            raise _refusal("unknown", needed, name, path, plugin, remedy="rename or remove it")
    for name, field in _FIELDS.items():
        if name not in data and field.default is attrs.NOTHING:
            raise _refusal("missing", "a value", name, path, plugin, remedy="add the field")
    if data["name"] != plugin:
        raise _refusal(
            f"{data['name']!r}", f"{plugin!r}, the name of the entry point", "name", path, plugin,
            remedy="give the manifest and the entry point one name; of several plugins in one distribution, "
            f"each has a package with a {FILE}",
        )  # fmt: skip
    try:
        manifest = Manifest(**data)
    except ValueCheckError as error:
        field_name = error.where.rpartition(".")[2]
        raise _refusal(error.seen, error.needed, field_name, path, plugin, remedy=error.remedy) from error
    for module in manifest.requires:
        if not all(part.isidentifier() for part in module.split(".")):
            raise _refusal(
                f"{module!r}", "names of importable modules, without versions", "requires", path, plugin,
                remedy="name the module here, and its version in the distribution's dependencies",
            )  # fmt: skip
    return manifest


def _refusal(seen: str, needed: str, field: str, path: Path, plugin: str, *, remedy: str) -> ManifestError:
    return ManifestError(
        f"the manifest's field {field!r}: {seen}", needed=needed, where=f"{path}, field {field}",
        plugin=plugin, remedy=remedy, value=field,
    )  # fmt: skip
