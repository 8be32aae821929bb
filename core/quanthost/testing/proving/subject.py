"""The backend that is checked: its plugin object, what it says of itself, and managers that watch it."""

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
    """A backend by name, with what is installed of it, or a plugin object alone.

    ``table`` is ``None`` where the plugin has none to derive cases from.
    """

    name: str
    plugin: object
    info: BackendInfo
    table: SupportTable | None
    installed: Installed | None = None

    @classmethod
    def of(cls, given: str | object, policy: discovery.Policy | None = None) -> Subject:
        """Load the backend of that name, or take the plugin object.

        Raises:
            DiscoveryError: unknown, blocked, broken, taken by two, or a manifest that is missing or wrong.
            HookError: a hook that does not exist, or an answer of the wrong type.
        """
        plugin = discovery.load(given, policy) if isinstance(given, str) else given
        name = given if isinstance(given, str) else getattr(getattr(given, "info", None), "name", "backend")
        info = Plugins([(name, plugin)]).info(name)
        installed = None
        if isinstance(given, str):
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

    def watched(self) -> tuple[Plugins, Watcher]:
        """A manager of the backend alone, whose hooks are watched."""
        watcher = Watcher(table=self.table)
        return Plugins([(self.name, self.plugin)], [(_WATCHER, watcher)]), watcher

    def request(self, recipe: str, *, keeps: bool = False) -> Request:
        """All that the backend can quantize is quantized, whether that pays or not.

        With ``keeps`` what lies in a module named ``kept`` stays in float.
        """
        overrides = (Override(module_name="*.kept", keep_float=True),) if keeps else ()
        return Request(backends=(self.name,), recipe=recipe, placement=Placement.ALL, overrides=overrides)

    def recipe(self, name: str) -> Recipe:
        found = self.info.recipe(name)
        assert found is not None
        return found

    def recipes(self, *, full: bool) -> tuple[Recipe, ...]:
        """All recipes, or the first of each kernel."""
        if full:
            return self.info.recipes
        first: dict[Kernel, Recipe] = {}
        for recipe in self.info.recipes:
            first.setdefault(recipe.kernel, recipe)
        return tuple(first.values())
