"""Reads the plugins that installed distributions register under the entry-point groups of quanthost."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from quanthost.errors import BackendLoadError, DiscoveryError
from quanthost.host.dist_info import Distribution, distributions, entry_points, fields, normalized
from quanthost.values.manifest import Manifest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Group", "Installed", "registered"]

_FILE = "entry_points.txt"
_SYNTAX = "package.module:object"
# the value of an entry point, by the specification of entry points
_VALUE = re.compile(r"([\w.]+)\s*(:\s*([\w.]+)\s*)?(\[.*\]\s*)?$")


class Group(enum.Enum):
    """The entry-point groups that plugins register in."""

    BACKENDS = "quanthost.backends"
    EXTENSIONS = "quanthost.extensions"

    @property
    def noun(self) -> str:
        return "backend" if self is Group.BACKENDS else "extension"


@attrs.frozen(kw_only=True)
class Installed:
    """A plugin as its distribution registers it, not imported; ``problem`` says why it cannot be used.

    ``entry_point`` is ``"package.module:object"``. ``manifest`` is ``None`` if it cannot be read.
    A distribution whose entry points cannot be read is listed under its own name.
    """

    name: str
    group: Group
    distribution: str
    version: str
    entry_point: str
    manifest: Manifest | None = None
    problem: DiscoveryError | None = None

    @property
    def origin(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}"

    @property
    def where(self) -> str:
        """Distribution and entry point, in the words of error messages."""
        return f"distribution {self.origin}, entry point {self.name} = {self.entry_point}"

    @property
    def module(self) -> str:
        """The module that an import of the entry point loads."""
        match = _VALUE.match(self.entry_point)
        return "" if match is None else match[1]

    @property
    def package(self) -> str:
        """The top-level package or module of its code."""
        return self.module.partition(".")[0]

    def as_entry_point(self) -> EntryPoint:
        # late: the import is slow, see dist_info
        from importlib.metadata import EntryPoint

        return EntryPoint(name=self.name, value=self.entry_point, group=self.group.value)


def registered(group: Group) -> list[Installed]:
    """The plugins of a group, sorted by name, then by distribution.

    A project can lie on ``sys.path`` twice: an egg-info folder beside the dist-info, or a checkout before
    the installed version. An import takes the first, and so does this.
    """
    projects: dict[str, list[Installed]] = {}
    for distribution in distributions():
        text = _entry_points(distribution)
        if f"[{group.value}]" not in text:
            continue
        metadata = fields(distribution)
        name, version = metadata.get("name", ""), metadata.get("version", "")
        # an interrupted installation can leave metadata without a name
        if name and normalized(name) not in projects:
            projects[normalized(name)] = list(_plugins(text, group, name, version))
    plugins = (plugin for project in projects.values() for plugin in project)
    return sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution))


def _entry_points(distribution: Distribution) -> str:
    try:
        return distribution.read_text(_FILE) or ""
    except UnicodeDecodeError:
        return ""


def _plugins(text: str, group: Group, name: str, version: str) -> Iterator[Installed]:
    try:
        points = entry_points(text, group.value)
    except ValueError:
        problem = _unreadable(f"a line in {_FILE}", f"name = {_SYNTAX}", name, version)
        yield Installed(
            name=name, group=group, distribution=name, version=version, entry_point="", problem=problem
        )
        return
    for point, value in points:
        valid = _VALUE.match(value) is not None
        yield Installed(
            name=point, group=group, distribution=name, version=version, entry_point=value,
            problem=None if valid else _unreadable(f"{value!r}", _SYNTAX, name, version),
        )  # fmt: skip


def _unreadable(seen: str, needed: str, distribution: str, version: str) -> BackendLoadError:
    return BackendLoadError(
        f"an entry point that cannot be read: {seen}", needed=needed, plugin=distribution,
        where=f"distribution {distribution} {version}, {_FILE}",
        remedy=f"reinstall it, or tell its authors: pip install --force-reinstall {distribution}",
    )  # fmt: skip
