"""Loads the backend under test and creates plugin managers that watch its hooks."""

from __future__ import annotations

import attrs

from quanthost.graph.table import SupportTable
from quanthost.hooks.manager import Plugins
from quanthost.host import discovery
from quanthost.host.registry import Installed
from quanthost.testing.proving.watching import Watcher
from quanthost.values import BackendInfo, Kernel, Override, Placement, Recipe, Request

__all__ = ["Subject"]

_WATCHER = "conformance"


@attrs.frozen(kw_only=True, eq=False)
class Subject:
    """The backend under test: an installed one, or a plugin object alone.

    ``table`` is ``None`` if the plugin has no support table to derive cases from.
    """

    name: str
    plugin: object
    info: BackendInfo
    table: SupportTable | None
    installed: Installed | None = None

    @classmethod
    def load(cls, backend: str | object, policy: discovery.Policy | None = None) -> Subject:
        """Load the backend of that name, or use the plugin object.

        Raises:
            DiscoveryError: unknown, blocked, broken, claimed by two distributions, or of a wrong manifest.
            HookError: a hook that does not exist, or an answer of the wrong type.
        """
        plugin = discovery.load(backend, policy) if isinstance(backend, str) else backend
        info = getattr(backend, "info", None)
        name = backend if isinstance(backend, str) else getattr(info, "name", "backend")
        info = Plugins([(name, plugin)]).info(name)
        installed = None
        if isinstance(backend, str):
            discovery.check_loaded(name, info, policy)
            installed = next((each for each in discovery.installed(policy) if each.name == name), None)
        table = getattr(plugin, "table", None)
        return cls(
            name=info.name, plugin=plugin, info=info, installed=installed,
            table=table if isinstance(table, SupportTable) else None,
        )  # fmt: skip

    @property
    def version(self) -> str:
        return "" if self.installed is None else self.installed.version

    def watch(self) -> tuple[Plugins, Watcher]:
        """A plugin manager of the backend alone, and the watcher of its hooks."""
        watcher = Watcher(table=self.table)
        return Plugins([(self.name, self.plugin)], [(_WATCHER, watcher)]), watcher

    def request(self, recipe: str, *, keeps_float: bool = False) -> Request:
        """A request that quantizes all that the backend can quantize, whether that pays or not.

        With ``keeps_float`` an override keeps modules named ``kept`` in float.
        """
        overrides = (Override(module_name="*.kept", keep_float=True),) if keeps_float else ()
        return Request(backends=(self.name,), recipe=recipe, placement=Placement.ALL, overrides=overrides)

    def recipe(self, name: str) -> Recipe:
        recipe = self.info.recipe(name)
        assert recipe is not None
        return recipe

    def recipes(self, *, full: bool) -> tuple[Recipe, ...]:
        """All recipes, or the first of each kernel."""
        if full:
            return self.info.recipes
        first: dict[Kernel, Recipe] = {}
        for recipe in self.info.recipes:
            first.setdefault(recipe.kernel, recipe)
        return tuple(first.values())
