"""The plugin manager of one run: validated registration, and hook results checked for their type."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from quanthost.errors import HookError
from quanthost.hooks import specs
from quanthost.hooks.specs import HOOKS, PROJECT, LoweringOptions, Problem, RowMiss
from quanthost.values import BackendInfo, Match, QSpecChoice, Refusal, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import GraphModule

__all__ = ["Plugins"]

_PREFIX = "quanthost_"
_NAMES = tuple(hook.__name__ for hook in HOOKS)


class Plugins:
    """Backends in order of priority, then extensions; one pluggy manager for one run.

    Raises:
        HookError: a plugin has a hook of an unknown name or with an argument that the hook does not have.
    """

    def __init__(
        self,
        backends: Sequence[tuple[str, object]],
        extensions: Sequence[tuple[str, object]] = (),
    ) -> None:
        self.backends = tuple(name for name, _ in backends)
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(sys.modules[specs.__name__])
        self._objects = {**dict(backends), **dict(extensions)}
        # pluggy calls the last registered first
        for name, plugin in reversed([*backends, *extensions]):
            _check_hooks(name, plugin)
            self._manager.register(plugin, name=name)

    def plugin(self, name: str) -> object:
        """The plugin object registered under a name."""
        return self._objects[name]

    def info(self, backend: str) -> BackendInfo:
        result = self._first(backend, "quanthost_backend_info", BackendInfo)
        if result is None:
            raise HookError(
                "no answer to quanthost_backend_info", needed="a BackendInfo", plugin=backend,
                remedy="implement the hook, or derive the plugin from TableBackend",
            )  # fmt: skip
        info: BackendInfo = result
        return info

    def transform(self, graph_module: GraphModule, request: Request) -> GraphModule:
        """Chain all ``quanthost_transform_for_annotation`` in order of priority, then extensions."""
        from torch.fx import GraphModule as Graph

        for impl in reversed(self._manager.hook.quanthost_transform_for_annotation.get_hookimpls()):
            given = {"graph_module": graph_module, "request": request}
            result = impl.function(*(given[name] for name in impl.argnames))
            _check_type(impl.plugin_name, "quanthost_transform_for_annotation", result, Graph)
            graph_module = result
        return graph_module

    def annotate(
        self, backend: str, graph_module: GraphModule, request: Request, open_nodes: frozenset[str]
    ) -> list[Match | RowMiss]:
        return self._collect(
            backend, "quanthost_annotate", (Match, RowMiss),
            graph_module=graph_module, request=request, open_nodes=open_nodes,
        )  # fmt: skip

    def choose_qspecs(self, backend: str, match: Match, request: Request) -> QSpecChoice | Refusal:
        result = self._first(
            backend, "quanthost_choose_qspecs", (QSpecChoice, Refusal), match=match, request=request
        )
        if result is None:
            return Refusal(reason=f"no plugin chose qspecs for the row {match.row}")
        choice: QSpecChoice | Refusal = result
        return choice

    def validate(self, **given: Any) -> list[Problem]:
        return self._collect(None, "quanthost_validate", Problem, **given)

    def partitioners(self, request: Request, kind: type) -> list[Any]:
        """The partitioners of all backends in order of priority."""
        return [
            partitioner
            for backend in self.backends
            for partitioner in self._collect(backend, "quanthost_create_partitioners", kind, request=request)
        ]

    def lowering_options(self, request: Request) -> list[LoweringOptions]:
        """The options of each backend, in order of priority; the host merges them."""
        found = (
            self._first(backend, "quanthost_lowering_options", LoweringOptions, request=request)
            for backend in self.backends
        )
        return [options for options in found if options is not None]

    def runner(self, program: bytes, request: Request) -> Callable[[list[Any]], list[Any]] | None:
        result = self._manager.hook.quanthost_create_runner(program=program, request=request)
        if result is not None and not callable(result):
            raise _wrong_type(self.backends[0], "quanthost_create_runner", result, "a callable or None")
        runner: Callable[[list[Any]], list[Any]] | None = result
        return runner

    def _caller(self, backend: str | None, hook: str) -> Any:
        """The hook without the other backends; extensions and their wrappers stay."""
        if backend is None:
            return getattr(self._manager.hook, hook)
        others = [self._objects[name] for name in self.backends if name != backend]
        return self._manager.subset_hook_caller(hook, remove_plugins=others)

    def _first(self, backend: str, hook: str, kind: Any, **given: Any) -> Any:
        result = self._caller(backend, hook)(**given)
        if result is not None:
            _check_type(backend, hook, result, kind)
        return result

    def _collect(self, backend: str | None, hook: str, kind: Any, **given: Any) -> list[Any]:
        found: list[Any] = []
        for result in reversed(self._caller(backend, hook)(**given)):
            if result is None:
                continue
            _check_type(backend, hook, result, (list, tuple))
            for item in result:
                _check_type(backend, hook, item, kind)
            found.extend(result)
        return found


def _check_type(plugin: str | None, hook: str, result: object, kind: Any) -> None:
    if isinstance(result, kind):
        return
    kinds = kind if isinstance(kind, tuple) else (kind,)
    raise _wrong_type(plugin, hook, result, " or ".join(k.__name__ for k in kinds))


def _wrong_type(plugin: str | None, hook: str, result: object, needed: str) -> HookError:
    return HookError(
        f"{hook} returned {result!r} of type {type(result).__name__}", needed=needed, plugin=plugin,
        remedy=f"return {needed} from the hook", value=result,
    )  # fmt: skip


def _check_hooks(plugin_name: str, plugin: object) -> None:
    """Refuse hooks of unknown names and unknown arguments, and known names that were not marked."""
    for name in dir(plugin):
        if not name.startswith(_PREFIX):
            continue
        function = getattr(plugin, name)
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, n=1)
            raise HookError(
                f"the hook {name!r}, which does not exist", plugin=plugin_name,
                needed="one of " + ", ".join(_NAMES), value=name,
                remedy=f"rename it to {near[0]}" if near else "rename or remove it",
            )  # fmt: skip
        if not hasattr(function, f"{PROJECT}_impl"):
            raise HookError(
                f"{name} without its mark", needed="@hookimpl above it", plugin=plugin_name, value=name,
                remedy="write 'from quanthost.api import hookimpl' and mark the function",
            )  # fmt: skip
        _check_arguments(plugin_name, name, function)


def _check_arguments(plugin_name: str, name: str, function: Callable[..., Any]) -> None:
    spec = next(hook for hook in HOOKS if hook.__name__ == name)
    allowed = list(inspect.signature(spec).parameters)
    for argument in inspect.signature(function).parameters:
        if argument not in allowed:
            raise HookError(
                f"{name} asks for {argument!r}", plugin=plugin_name, value=argument,
                needed="only " + (", ".join(allowed) or "no argument"),
                remedy="rename or remove the argument",
            )  # fmt: skip
