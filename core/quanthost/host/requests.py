"""Resolves a target into the loaded plugins and the request to them."""

from __future__ import annotations

from quanthost.hooks.manager import Plugins
from quanthost.host import discovery
from quanthost.host.measured_costs import find_costs
from quanthost.host.target import Target, check_names
from quanthost.values import Request

__all__ = ["resolve"]


def resolve(target: Target) -> tuple[Plugins, Request]:
    """Load the backends of a target and the installed extensions, and make the request to them.

    Names become plugins, no recipe becomes the first backend's first one, and costs become a table.

    Raises:
        DiscoveryError: a backend is unknown, blocked or broken.
        RequestError: two backends have one name, or the costs are missing or another backend's.
    """
    plugins = _load(target)
    recipes = plugins.info(plugins.backends[0]).recipes
    request = Request(
        backends=plugins.backends, recipe=recipes[0].name if target.recipe is None else target.recipe,
        overrides=target.overrides, qat=target.qat, placement=target.placement, options=target.options,
        costs=find_costs(target.optimize_for, target.costs, plugins.backends), toolchain=target.toolchain,
    )  # fmt: skip
    return plugins, request


def _load(target: Target) -> Plugins:
    backends = [
        (each, discovery.load(each, target.policy)) if isinstance(each, str) else (_name(each), each)
        for each in target.backend
    ]
    check_names([name for name, _ in backends], [name for name, _ in backends])
    objects = [name for (name, _), each in zip(backends, target.backend) if not isinstance(each, str)]
    plugins = Plugins(backends, discovery.extensions(target.policy), unregistered=objects)
    for name in plugins.registered:
        discovery.check_loaded(name, plugins.info(name), target.policy)
    return plugins


def _name(plugin: object) -> str:
    return Plugins([("backend", plugin)]).info("backend").name
