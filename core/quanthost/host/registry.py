"""What the installed distributions register under the entry-point groups of quanthost."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, distributions

import attrs
from packaging.utils import canonicalize_name

from quanthost.errors import BackendLoadError, DiscoveryError
from quanthost.values import Manifest

__all__ = ["Group", "Installed", "registered"]

_FILE = "entry_points.txt"
_SYNTAX = "package.module:object"


class Group(enum.Enum):
    """The entry-point groups that plugins register in."""

    BACKENDS = "quanthost.backends"
    EXTENSIONS = "quanthost.extensions"

    @property
    def noun(self) -> str:
        return "backend" if self is Group.BACKENDS else "extension"


@attrs.frozen(kw_only=True)
class Installed:
    """A plugin as its distribution registers it, not imported; ``problem`` is why it cannot be used.

    ``entry_point`` is ``"package.module:object"``. ``manifest`` is ``None`` where it cannot be read.
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
    def package(self) -> str:
        """The package, or module, that its code lies in."""
        return self.entry_point.partition(":")[0].partition(".")[0]

    def as_entry_point(self) -> EntryPoint:
        return EntryPoint(name=self.name, value=self.entry_point, group=self.group.value)


def registered(group: Group) -> list[Installed]:
    """The plugins of a group, sorted by name, then by distribution.

    A project can lie on ``sys.path`` twice: an egg-info folder beside the dist-info, or a checkout before
    the installed version. An import takes the first, and so does this.
    """
    projects: dict[str, Distribution] = {}
    for distribution in distributions():
        # no name: the remainder of an interrupted installation
        if _mentions(distribution, group) and distribution.metadata["Name"]:
            projects.setdefault(canonicalize_name(distribution.metadata["Name"]), distribution)
    found = (plugin for distribution in projects.values() for plugin in _plugins(distribution, group))
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def _mentions(distribution: Distribution, group: Group) -> bool:
    try:
        return f"[{group.value}]" in (distribution.read_text(_FILE) or "")
    except UnicodeDecodeError:
        return False


def _plugins(distribution: Distribution, group: Group) -> Iterator[Installed]:
    name, version = distribution.metadata["Name"], distribution.version
    try:
        points = distribution.entry_points.select(group=group.value)
    except (TypeError, ValueError):
        problem = _unreadable(f"a line in {_FILE}", f"name = {_SYNTAX}", name, version)
        yield Installed(
            name=name, group=group, distribution=name, version=version, entry_point="", problem=problem
        )
        return
    for point in points:
        valid = EntryPoint.pattern.match(point.value) is not None
        yield Installed(
            name=point.name, group=group, distribution=name, version=version, entry_point=point.value,
            problem=None if valid else _unreadable(f"{point.value!r}", _SYNTAX, name, version),
        )  # fmt: skip


def _unreadable(seen: str, needed: str, distribution: str, version: str) -> BackendLoadError:
    return BackendLoadError(
        f"an entry point that cannot be read: {seen}", needed=needed, plugin=distribution,
        where=f"distribution {distribution} {version}, {_FILE}",
        remedy=f"reinstall it, or tell its authors: pip install --force-reinstall {distribution}",
    )  # fmt: skip
