"""Discovery: lists the installed plugins with their problems, and imports those that a run names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from quanthost.errors import (
    BackendLoadError,
    BlockedBackendError,
    DiscoveryError,
    DuplicateBackendError,
    UnknownBackendError,
)
from quanthost.host.api_range import API_VERSION
from quanthost.host.manifests import check_manifest, read
from quanthost.host.module_files import is_importable
from quanthost.host.policy import ENVIRONMENT, Policy
from quanthost.host.registry import Group, Installed, registered

if TYPE_CHECKING:
    from quanthost.values import BackendInfo, PluginRecord

__all__ = [
    "API_VERSION",
    "Group",
    "Installed",
    "Policy",
    "check_loaded",
    "check_manifest",
    "extensions",
    "find",
    "installed",
    "load",
    "plugin_records",
]

_LISTS = f"{ENVIRONMENT} or backends_allowed"
_TOOLCHAIN = ("torch", "torchao", "executorch")
_PROJECT = re.compile(r"[A-Za-z0-9._-]+")


def installed(policy: Policy | None = None, *, group: Group = Group.BACKENDS) -> tuple[Installed, ...]:
    """The plugins of a group, sorted by name, each with its manifest and the problem that blocks it, if any.

    Imports no plugin and raises no plugin's problem. Without ``policy``, the environment's policy applies.
    """
    policy = Policy.of() if policy is None else policy
    plugins = registered(group)
    # a run finds backends and extensions by name, so that an extension must not share a backend's name
    registrations = [*registered(Group.BACKENDS), *plugins] if group is Group.EXTENSIONS else plugins
    return tuple(_examine(plugin, registrations, policy) for plugin in plugins)


def plugin_records(names: Sequence[str]) -> tuple[PluginRecord, ...]:
    """Distribution and version of the backends that are installed, for the records of programs."""
    # late: listing installed plugins needs no values
    from quanthost.values import PluginRecord

    by_name = {plugin.name: plugin for plugin in installed()}
    return tuple(
        PluginRecord(name=name, distribution=by_name[name].distribution, version=by_name[name].version)
        for name in names
        if name in by_name
    )


def find(name: str, policy: Policy | None = None) -> Installed:
    """The backend of that name, with its problem if it has one; nothing is imported.

    Raises:
        UnknownBackendError: no distribution registers the name.
    """
    backends = installed(policy)
    for backend in backends:
        if backend.name == name:
            return backend
    raise _unknown(name, backends)


def load(name: str, policy: Policy | None = None) -> object:
    """Import the backend of that name and return its plugin object; a class is called without arguments.

    Raises:
        UnknownBackendError: no distribution registers the name.
        BlockedBackendError: the policy forbids its import.
        DuplicateBackendError: two distributions register the name.
        ManifestError: its manifest is missing, unreadable or wrong.
        ApiVersionError: its manifest's API range excludes this host.
        BackendLoadError: a module that it requires is missing, or its import failed.
    """
    return _import(find(name, policy))


def extensions(policy: Policy | None = None) -> tuple[tuple[str, object], ...]:
    """Names and plugin objects of all extensions, sorted by name, under the rules of ``load``.

    No run names an extension. One that cannot be used is skipped with a warning, one that the policy
    blocks without.
    """
    loaded = []
    for extension in installed(policy, group=Group.EXTENSIONS):
        if isinstance(extension.problem, BlockedBackendError):
            continue
        try:
            loaded.append((extension.name, _import(extension)))
        except DiscoveryError as error:
            warnings.warn(f"left out: {error}", RuntimeWarning, stacklevel=2)
    return tuple(loaded)


def check_loaded(name: str, info: BackendInfo, policy: Policy | None = None) -> None:
    """Refuse a loaded backend whose code contradicts its manifest."""
    for backend in installed(policy):
        if backend.name == name and backend.manifest is not None:
            check_manifest(backend.manifest, info)


def _examine(plugin: Installed, registrations: Sequence[Installed], policy: Policy) -> Installed:
    if plugin.problem is not None:
        return plugin
    manifest, problem = read(plugin.module, plugin=plugin.name)
    requires = () if manifest is None else manifest.requires
    problems = (
        _blocked(plugin, policy),
        _duplicate(plugin, registrations),
        problem,
        _missing_modules(plugin, requires),
    )
    first = next((each for each in problems if each is not None), None)
    return attrs.evolve(plugin, manifest=manifest, problem=first)


def _blocked(plugin: Installed, policy: Policy) -> DiscoveryError | None:
    if policy.admits(plugin.name):
        return None
    name = plugin.name
    remedy = f"remove '-{name}' from" if name in policy.blocked else f"add {name!r} to"
    return BlockedBackendError(
        f"the {plugin.group.noun} {name!r}, which is installed but may not be imported",
        needed=f"a name that the lists admit ({policy})", where=plugin.where, plugin=name, value=name,
        remedy=f"{remedy} {_LISTS}",
    )  # fmt: skip


def _duplicate(plugin: Installed, registrations: Sequence[Installed]) -> DiscoveryError | None:
    claims = [other for other in registrations if other.name == plugin.name]
    if len(claims) == 1:
        return None
    return DuplicateBackendError(
        f"the {plugin.group.noun} {plugin.name!r}, registered by "
        + " and by ".join(
            claim.origin if claim.group is plugin.group else f"{claim.origin} as {claim.group.noun}"
            for claim in claims
        ),
        needed="one distribution for a name", where="; ".join(claim.where for claim in claims),
        plugin=plugin.name, value=plugin.name,
        remedy="uninstall all but one: pip uninstall "
        + " or ".join(sorted({claim.distribution for claim in claims})),
    )  # fmt: skip


def _missing_modules(plugin: Installed, requires: Sequence[str]) -> DiscoveryError | None:
    missing = [module for module in requires if not is_importable(module)]
    if not missing:
        return None
    return BackendLoadError(
        f"the {plugin.group.noun} {plugin.name!r}, which lacks " + ", ".join(map(repr, missing)),
        needed="the modules that its manifest requires: " + ", ".join(requires), where=plugin.where,
        plugin=plugin.name, value=tuple(missing), remedy=_how_to_install(missing, plugin),
    )  # fmt: skip


def _unknown(name: str, backends: Sequence[Installed]) -> DiscoveryError:
    # late: only this error needs it
    import difflib

    near = difflib.get_close_matches(name, dict.fromkeys(backend.name for backend in backends))
    return UnknownBackendError(
        f"the backend {name!r}, which no installed distribution offers",
        needed=f"the name of a backend ({_listing(backends)})",
        where=f"entry-point group {Group.BACKENDS.value}", plugin=name, value=name,
        remedy="ask for " + " or ".join(map(repr, near)) if near
        else "install the distribution that offers it, into the environment of this Python",
    )  # fmt: skip


def _listing(backends: Sequence[Installed]) -> str:
    names: dict[str, list[str]] = {"installed": [], "blocked": [], "broken": []}
    for backend in backends:
        if backend.problem is None:
            names["installed"].append(backend.name)
        elif isinstance(backend.problem, BlockedBackendError):
            names["blocked"].append(backend.name)
        else:
            names["broken"].append(f"{backend.name} ({backend.problem.seen})")
    listed = (f"{state}: {', '.join(dict.fromkeys(members))}" for state, members in names.items() if members)
    return "; ".join(listed) or "none is installed"


def _import(plugin: Installed) -> object:
    if plugin.problem is not None:
        raise plugin.problem
    try:
        target = plugin.as_entry_point().load()
        return target() if isinstance(target, type) else target
    # a plugin's code may raise any exception, and its sys.exit must not end the host
    except (Exception, SystemExit) as error:
        raise BackendLoadError(
            f"the {plugin.group.noun} {plugin.name!r} failed to load: {type(error).__name__}: {error}",
            needed="an entry point that can be imported, and called if it is a class",
            where=plugin.where, plugin=plugin.name, remedy=_how_to_repair(error, plugin),
        ) from error  # fmt: skip


def _how_to_repair(error: BaseException, plugin: Installed) -> str:
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if absent is not None and not is_importable(absent.partition(".")[0]):
        return _how_to_install([absent], plugin)
    return f"repair or update {plugin.distribution}, or block it: {ENVIRONMENT}=-{plugin.name}"


def _how_to_install(modules: Sequence[str], plugin: Installed) -> str:
    """A pip command for the modules whose distribution is known, and the names of the others.

    Known distributions are those that the plugin's distribution requires, and the host's toolchain. A
    module's name is never used as the name of a distribution: pip could install an unrelated package.
    """
    # late: a listing without problems needs neither of them
    from importlib import metadata

    from packaging.utils import canonicalize_name

    requirements = dict.fromkeys(_TOOLCHAIN, "quanthost[toolchain]")
    for requirement in metadata.requires(plugin.distribution) or ():
        project = _PROJECT.match(requirement)
        if project is not None:
            requirements[canonicalize_name(project[0])] = requirement.partition(";")[0].strip()
    sources = {module: requirements.get(canonicalize_name(module.partition(".")[0])) for module in modules}
    packages = dict.fromkeys(f"'{source}'" for source in sources.values() if source is not None)
    others = [repr(module) for module, source in sources.items() if source is None]
    steps = ["pip install " + " ".join(packages)] if packages else []
    if others:
        steps.append("install what provides " + " and ".join(others))
    return "; ".join(steps)
