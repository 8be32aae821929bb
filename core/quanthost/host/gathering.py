"""What a run begins with: the plugins of the backends asked for, and the request to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quanthost.errors import RequestError
from quanthost.hooks.manager import Plugins
from quanthost.host import discovery
from quanthost.host.costs import Costs, find_costs
from quanthost.values import Override, Placement, Request

__all__ = ["Backend", "Options", "gather", "make_request"]

Backend = str | Sequence[str]
Options = Mapping[str, str | int | float | bool]


def gather(backend: Backend, policy: discovery.Policy | None = None) -> Plugins:
    """Load the backends asked for, and the installed extensions, into the plugin manager of one run."""
    names = [backend] if isinstance(backend, str) else list(backend)
    if not names or len(set(names)) != len(names):
        raise RequestError(
            f"the backends {names!r}", needed="at least one backend, each once, the first preferred",
            stage="prepare", remedy="name the backends in order of priority", value=backend,
        )  # fmt: skip
    loaded = [(name, discovery.load(name, policy)) for name in names]
    plugins = Plugins(loaded, discovery.extensions(policy))
    for name in names:
        discovery.check_loaded(name, plugins.info(name), policy)
    return plugins


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
