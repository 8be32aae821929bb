"""What a run begins with: the plugins of the backends asked for, and the request to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quanthost.errors import RequestError
from quanthost.hooks.manager import Plugins
from quanthost.host import discovery
from quanthost.host.measured_costs import Costs, find_costs
from quanthost.values import Override, Placement, Request

__all__ = ["Backend", "Options", "gather", "make_request"]

# names, or plugin objects that no distribution registers: tests and notebooks of a backend's author have them
Backend = str | object | Sequence[str | object]
Options = Mapping[str, str | int | float | bool]


def gather(backend: Backend, policy: discovery.Policy | None = None) -> Plugins:
    """Load the backends asked for, and the installed extensions, into the plugin manager of one run."""
    given = _listed(backend)
    names = [each if isinstance(each, str) else _name_of(each) for each in given]
    if not names or len(set(names)) != len(names):
        raise RequestError(
            f"the backends {names!r}", needed="at least one backend, each once, the first preferred",
            stage="prepare", remedy="name the backends in order of priority", value=backend,
        )  # fmt: skip
    loaded = [
        (name, discovery.load(name, policy) if isinstance(each, str) else each)
        for name, each in zip(names, given)
    ]
    objects = [name for name, each in zip(names, given) if not isinstance(each, str)]
    plugins = Plugins(loaded, discovery.extensions(policy), unregistered=objects)
    for name in plugins.backends:
        info = plugins.info(name)
        if name not in objects:
            discovery.check_loaded(name, info, policy)
    return plugins


def _listed(backend: Backend) -> list[str | object]:
    if isinstance(backend, str) or not isinstance(backend, Sequence):
        return [backend]
    return list(backend)


def _name_of(plugin: object) -> str:
    """The name that a plugin object says it has."""
    tell = getattr(plugin, "quanthost_backend_info", None)
    if isinstance(plugin, type) or not callable(tell):
        raise RequestError(
            f"the backend {plugin!r}", needed="the name of one, or a plugin object with its hooks",
            stage="prepare", value=plugin,
            remedy="name an installed backend, or give an instance of TableBackend",
        )  # fmt: skip
    return Plugins([("backend", plugin)]).info("backend").name


def make_request(
    plugins: Plugins,
    *,
    recipe: str | None,
    overrides: Sequence[Override] = (),
    qat: bool = False,
    placement: Placement | str = Placement.COST,
    options: Options | None = None,
    optimize_for: str = "accuracy",
    costs: Costs | None = None,
) -> Request:
    """The request for loaded backends; no recipe means the first of the first backend."""
    first = plugins.info(plugins.backends[0])
    known = [each.value for each in Placement]
    if not isinstance(placement, Placement) and placement not in known:
        raise RequestError(
            f"the placement {placement!r}", needed=f"one of {', '.join(known)}", stage="prepare",
            remedy="choose one of these", value=placement,
        )  # fmt: skip
    return Request(
        backends=plugins.backends, recipe=first.recipes[0].name if recipe is None else recipe,
        overrides=overrides, qat=qat, placement=Placement(placement),
        options={} if options is None else options,
        costs=find_costs(optimize_for, costs, plugins.backends),
    )  # fmt: skip
