"""The plugin manager of one run: validated registration, and hook results checked for their type."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from quanthost.deprecation import warn_at
from quanthost.errors import HookError, QuanthostError
from quanthost.hooks import specs
from quanthost.hooks.specs import DEPRECATED, HOOKS, PROJECT, LoweringOptions, Problem, RowMiss
from quanthost.values import BackendInfo, Match, PieceRecord, QSpecChoice, Refusal, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import GraphModule

__all__ = ["Plugins"]

_PREFIX = "quanthost_"
_MARK = f"{PROJECT}_impl"
_NAMES = tuple(hook.__name__ for hook in HOOKS)
# the type of an answer to a hook, and of the items of a list; partitioners are a type of the toolchain
_ANSWERS: dict[str, tuple[type, ...]] = {
    "quanthost_backend_info": (BackendInfo,),
    "quanthost_choose_qspecs": (QSpecChoice, Refusal),
    "quanthost_lowering_options": (LoweringOptions,),
}
_ITEMS: dict[str, tuple[type, ...]] = {
    "quanthost_annotate": (Match, RowMiss),
    "quanthost_validate": (Problem,),
}


class Plugins:
    """Backends in order of priority, then extensions; one pluggy manager for one run.

    Each answer is checked at once, so that the error names the plugin that gave a wrong one.
    ``unregistered`` names the backends that the caller passed as objects, which no distribution offers.

    Raises:
        HookError: a plugin has a hook of an unknown name or with an argument that the hook does not have.
    """

    def __init__(
        self,
        backends: Sequence[tuple[str, object]],
        extensions: Sequence[tuple[str, object]] = (),
        *,
        unregistered: Collection[str] = (),
    ) -> None:
        self.backends = tuple(name for name, _ in backends)
        self.unregistered = frozenset(unregistered)
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(sys.modules[specs.__name__])
        self._objects = {**dict(backends), **dict(extensions)}
        self._partitioner: type = object
        # pluggy calls the last registered first
        for name, plugin in reversed([*backends, *extensions]):
            _check_hooks(name, plugin)
            self._manager.register(self._wrap_hooks(name, plugin), name=name)

    @property
    def registered(self) -> tuple[str, ...]:
        """The backends that a distribution registers, in order of priority."""
        return tuple(name for name in self.backends if name not in self.unregistered)

    def _wrap_hooks(self, name: str, plugin: object) -> _Hooks:
        """Wrap the hooks of a plugin to check their results, except hook wrappers."""
        hooks = _Hooks()
        for hook in _NAMES:
            function = getattr(plugin, hook, None)
            if function is not None:
                setattr(hooks, hook, function if _wraps(function) else self._checking(name, hook, function))
        return hooks

    def _checking(self, name: str, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def answer(*args: Any) -> Any:
            try:
                result = function(*args)
            except QuanthostError:
                raise
            except Exception as error:
                lines = str(error).strip().splitlines() or [""]
                raise HookError(
                    f"{hook} raised {type(error).__name__}: {lines[0]}", plugin=name, value=error,
                    needed="a hook that returns its answer, or raises a QuanthostError",
                    remedy="report it to the author of the plugin, with the model if possible",
                ) from error  # fmt: skip
            self._check(name, hook, result)
            return result

        return answer

    def plugin(self, name: str) -> object:
        """The plugin object registered under a name."""
        return self._objects[name]

    def info(self, backend: str) -> BackendInfo:
        result = self._first(backend, "quanthost_backend_info")
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
            arguments = {"graph_module": graph_module, "request": request}
            result = impl.function(*(arguments[name] for name in impl.argnames))
            if not isinstance(result, Graph):
                raise _wrong_type(
                    impl.plugin_name, "quanthost_transform_for_annotation", result, "GraphModule"
                )
            graph_module = result
        return graph_module

    def annotate(
        self, backend: str, graph_module: GraphModule, request: Request, open_nodes: frozenset[str]
    ) -> list[Match | RowMiss]:
        return self._collect(
            backend, "quanthost_annotate",
            graph_module=graph_module, request=request, open_nodes=open_nodes,
        )  # fmt: skip

    def choose_qspecs(self, backend: str, match: Match, request: Request) -> QSpecChoice | Refusal:
        result = self._first(backend, "quanthost_choose_qspecs", match=match, request=request)
        if result is None:
            return Refusal(reason=f"no plugin chose qspecs for the row {match.row}")
        choice: QSpecChoice | Refusal = result
        return choice

    def validate(self, **arguments: Any) -> list[Problem]:
        return self._collect(None, "quanthost_validate", **arguments)

    def partitioners(self, request: Request, kind: type) -> list[Any]:
        """The partitioners of all backends in order of priority, then of extensions."""
        self._partitioner = kind
        return self._collect(None, "quanthost_create_partitioners", request=request)

    def lowering_options(self, request: Request) -> list[LoweringOptions]:
        """The options of each backend, in order of priority; the host merges them."""
        answers = (
            self._first(backend, "quanthost_lowering_options", request=request) for backend in self.backends
        )
        return [options for options in answers if options is not None]

    def runner(
        self, program: bytes, request: Request, pieces: tuple[PieceRecord, ...]
    ) -> Callable[[list[Any]], list[Any]] | None:
        runner: Callable[[list[Any]], list[Any]] | None = self._first(
            None, "quanthost_create_runner", program=program, request=request, pieces=pieces
        )
        return runner

    def _caller(self, backend: str | None, hook: str) -> pluggy.HookCaller:
        """The hook without the other backends; extensions and their wrappers stay."""
        if backend is None:
            return getattr(self._manager.hook, hook)  # type: ignore[no-any-return]  # a hook of the specs
        others = [self._manager.get_plugin(name) for name in self.backends if name != backend]
        return self._manager.subset_hook_caller(hook, remove_plugins=others)

    def _first(self, backend: str | None, hook: str, **arguments: Any) -> Any:
        caller = self._caller(backend, hook)
        result = caller(**arguments)
        self._check(_wrappers(caller), hook, result)
        return result

    def _collect(self, backend: str | None, hook: str, **arguments: Any) -> list[Any]:
        caller = self._caller(backend, hook)
        answers = caller(**arguments)
        if not isinstance(answers, list):
            raise _wrong_type(_wrappers(caller), hook, answers, "a list of answers")
        items: list[Any] = []
        for result in answers:
            self._check(_wrappers(caller), hook, result)
            items.extend(result)
        return items

    def _check(self, plugin: str, hook: str, result: Any) -> None:
        """Refuse an answer of the wrong type; ``None`` is no answer."""
        if result is None:
            return
        if hook == "quanthost_create_runner" and not callable(result):
            raise _wrong_type(plugin, hook, result, "a callable or None")
        if hook in _ANSWERS and not isinstance(result, _ANSWERS[hook]):
            raise _wrong_type(plugin, hook, result, _names(_ANSWERS[hook]))
        items = (self._partitioner,) if hook == "quanthost_create_partitioners" else _ITEMS.get(hook)
        if items is None:
            return
        if not isinstance(result, (list, tuple)):
            raise _wrong_type(plugin, hook, result, f"a list of {_names(items)}")
        for item in result:
            if not isinstance(item, items):
                raise _wrong_type(plugin, hook, item, _names(items))


class _Hooks:
    """The object that is registered for a plugin: its hooks as attributes."""


def _wraps(function: object) -> bool:
    options = getattr(function, _MARK)
    return bool(options["wrapper"] or options["hookwrapper"])


def _wrappers(caller: pluggy.HookCaller) -> str:
    """The plugins that can have changed an answer."""
    return ", ".join(impl.plugin_name for impl in caller.get_hookimpls() if impl.wrapper or impl.hookwrapper)


def _names(kinds: tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in kinds)


def _wrong_type(plugin: str, hook: str, result: object, needed: str) -> HookError:
    return HookError(
        f"{hook} returned {result!r} of type {type(result).__name__}", needed=needed, plugin=plugin,
        remedy=f"return {needed} from the hook", value=result,
    )  # fmt: skip


def _check_hooks(plugin_name: str, plugin: object) -> None:
    """Refuse hooks of unknown names and unknown arguments, and known names that were not marked."""
    for name in dir(plugin):
        if not name.startswith(_PREFIX) and not _is_marked(plugin, name):
            continue
        function = getattr(plugin, name)
        if inspect.ismodule(function):
            continue
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, n=1)
            raise HookError(
                f"the hook {name!r}, which does not exist", plugin=plugin_name,
                needed="one of " + ", ".join(_NAMES), value=name,
                remedy=f"rename it to {near[0]}" if near else "rename or remove it",
            )  # fmt: skip
        if not inspect.isroutine(function) or not hasattr(function, _MARK):
            raise HookError(
                f"{name} without its mark", needed="a function with @hookimpl above it", plugin=plugin_name,
                remedy="write 'from quanthost.api import hookimpl' and mark the function", value=name,
            )  # fmt: skip
        _check_arguments(plugin_name, name, function)
        _warn_of_old(name, function)


def _warn_of_old(name: str, function: Callable[..., Any]) -> None:
    """Warn at the plugin's own line of a hook or argument that goes away; hooks of the host are not its."""
    if function.__module__.partition(".")[0] == "quanthost":
        return
    for key in (name, *(f"{name}.{argument}" for argument in inspect.signature(function).parameters)):
        if key in DEPRECATED:
            warn_at(DEPRECATED[key], function)


def _is_marked(plugin: object, name: str) -> bool:
    """Whether a function of any name is marked as a hook; properties are not evaluated."""
    attribute = inspect.getattr_static(plugin, name, None)
    function = getattr(attribute, "__func__", attribute)
    return inspect.isroutine(function) and hasattr(function, _MARK)


def _check_arguments(plugin_name: str, name: str, function: Callable[..., Any]) -> None:
    spec = next(hook for hook in HOOKS if hook.__name__ == name)
    allowed = list(inspect.signature(spec).parameters)
    for argument, parameter in inspect.signature(function).parameters.items():
        if argument not in allowed:
            raise HookError(
                f"{name} asks for {argument!r}", plugin=plugin_name, value=argument,
                needed="only " + (", ".join(allowed) or "no argument"),
                remedy="rename or remove the argument",
            )  # fmt: skip
        if parameter.default is not parameter.empty:
            raise HookError(
                f"{name} has a default for {argument!r}, and would always be called with that",
                needed="arguments without defaults", plugin=plugin_name, value=argument,
                remedy="remove the default",
            )  # fmt: skip
