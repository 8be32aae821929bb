"""Plugins: what is refused when a plugin is registered, who is called, and whose answer is wrong."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Generator
from typing import Any

import attrs
import pytest
from torch import fx, nn

from quanthost.errors import HookError
from quanthost.hooks.manager import Plugins
from quanthost.hooks.specs import HOOKS, LoweringOptions, Problem, RowMiss, hookimpl
from quanthost.values import (
    BackendInfo,
    DType,
    Kernel,
    Match,
    QSpec,
    QSpecChoice,
    Recipe,
    Refusal,
    Request,
)

RECIPE = Recipe(name="int8_static", kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8))
REQUEST = Request(backends=["one", "two"], recipe="int8_static")
CHOICE = QSpecChoice(qspecs={"input": QSpec(dtype=DType.INT8)})


def match_of(backend: str) -> Match:
    return Match(backend=backend, row="relu", kernel=Kernel.STATIC, nodes=["relu"])


def graph() -> fx.GraphModule:
    return fx.symbolic_trace(nn.ReLU())


class Backend:
    """A backend that says who was called, in the order of the calls."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    @hookimpl
    def quanthost_backend_info(self) -> BackendInfo:
        return BackendInfo(name=self.name, recipes=[RECIPE])

    @hookimpl
    def quanthost_transform_for_annotation(self, graph_module: fx.GraphModule) -> fx.GraphModule:
        graph_module.meta.setdefault("order", []).append(self.name)
        return graph_module

    @hookimpl
    def quanthost_annotate(self, open_nodes: frozenset[str]) -> list[Match | RowMiss]:
        self.calls.append(self.name)
        return [match_of(self.name), RowMiss(node=",".join(sorted(open_nodes)), row="conv", reason="no")]

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match) -> QSpecChoice | Refusal:
        return Refusal(reason=f"{self.name} refuses {match.row}")

    @hookimpl
    def quanthost_validate(self) -> list[Problem]:
        return [Problem(node="relu", message=self.name, remedy="none")]

    @hookimpl
    def quanthost_create_partitioners(self) -> list[str]:
        return [f"{self.name}/0", f"{self.name}/1"]

    @hookimpl
    def quanthost_lowering_options(self) -> LoweringOptions:
        return LoweringOptions(runtime_modules=(self.name,))


def nothing() -> list[Any]:
    return []


def plugin(**hooks: Callable[..., Any]) -> types.SimpleNamespace:
    """A plugin of marked functions."""
    return types.SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def both(calls: list[str]) -> Plugins:
    """Two backends, the first preferred."""
    return Plugins([("one", Backend("one", calls)), ("two", Backend("two", calls))])


# what is refused at registration


def test_unknown_hook() -> None:
    """A typing error in a hook's name is refused with the nearest name, not ignored."""
    broken = plugin(quanthost_anotate=lambda graph_module: [])
    with pytest.raises(HookError, match="the hook 'quanthost_anotate', which does not exist") as caught:
        Plugins([("npu", broken)])
    assert caught.value.remedy == "rename it to quanthost_annotate"
    assert caught.value.plugin == "npu"
    assert "quanthost_choose_qspecs" in caught.value.needed


def test_unknown_hook_that_resembles_none() -> None:
    """Where no name is near, none is proposed."""
    with pytest.raises(HookError, match="which does not exist") as caught:
        Plugins([("npu", plugin(xyz=lambda: None))])
    assert caught.value.remedy == "rename or remove it"


def test_marked_function_of_any_other_name() -> None:
    """A mark on a function without the prefix is a hook that nobody would call."""
    with pytest.raises(HookError, match="the hook 'annotate', which does not exist"):
        Plugins([("npu", plugin(annotate=lambda graph_module: []))])


def test_hook_without_its_mark() -> None:
    """A subclass that overrides a hook and forgets the mark would be silent."""

    class Forgetful(Backend):
        def quanthost_annotate(self, open_nodes: frozenset[str]) -> list[Match | RowMiss]:
            return []

    with pytest.raises(
        HookError, match=r"quanthost_annotate without its mark\n.*@hookimpl above it"
    ) as caught:
        Plugins([("npu", Forgetful("npu", []))])
    assert "from quanthost.api import hookimpl" in caught.value.remedy


def test_hook_that_is_no_function() -> None:
    """A callable object cannot say which arguments it wants."""
    broken = types.SimpleNamespace(quanthost_annotate=hookimpl(functools.partial(list)))
    with pytest.raises(HookError, match="quanthost_annotate without its mark"):
        Plugins([("npu", broken)])


def test_argument_that_the_hook_does_not_have() -> None:
    """The error lists the arguments that there are."""
    with pytest.raises(HookError, match="quanthost_annotate asks for 'graph'") as caught:
        Plugins([("npu", plugin(quanthost_annotate=lambda graph, request: []))])
    assert caught.value.needed == "only graph_module, request, open_nodes"
    assert caught.value.value == "graph"


def test_argument_of_a_hook_without_arguments() -> None:
    """Where there is no argument, the error says so."""
    with pytest.raises(HookError, match=r"asks for 'request'\n.*only no argument"):
        Plugins([("npu", plugin(quanthost_backend_info=lambda request: None))])


def test_argument_with_a_default() -> None:
    """A default would always win over what the host hands in."""
    with pytest.raises(HookError, match="has a default for 'open_nodes'"):
        Plugins([("npu", plugin(quanthost_annotate=lambda graph_module, open_nodes=frozenset(): []))])


def test_extensions_are_checked_too() -> None:
    """The name in the error is the extension's."""
    with pytest.raises(HookError, match="which does not exist") as caught:
        Plugins([("one", Backend("one", []))], [("smooth", plugin(quanthost_smooth=lambda: None))])
    assert caught.value.plugin == "smooth"


def test_module_of_the_same_prefix_is_no_hook() -> None:
    """A plugin may be a module that imports its own package, whose name begins with quanthost_."""
    module = types.ModuleType("quanthost_npu")
    module.quanthost_npu = module  # type: ignore[attr-defined]
    module.quanthost_backend_info = hookimpl(lambda: BackendInfo(name="npu", recipes=[RECIPE]))  # type: ignore[attr-defined]
    assert Plugins([("npu", module)]).info("npu").name == "npu"


def test_properties_are_not_run() -> None:
    """Looking for hooks runs no property of a plugin."""

    class Lazy(Backend):
        @property
        def device(self) -> str:
            raise AssertionError("no device here")

    assert Plugins([("npu", Lazy("npu", []))]).info("npu").name == "npu"


@attrs.define
class Equal:
    """A plugin that equals every other of its kind, and has no hash."""

    @hookimpl
    def quanthost_lowering_options(self) -> LoweringOptions:
        return LoweringOptions(runtime_modules=("equal",))


def test_plugins_that_are_equal() -> None:
    """Plugins are told apart by their names."""
    plugins = Plugins([("one", Equal()), ("two", Equal())])
    assert len(plugins.lowering_options(REQUEST)) == 2


# who is called, and in which order


def test_info_of_each_backend(both: Plugins) -> None:
    """A backend is asked for itself alone."""
    assert (both.info("one").name, both.info("two").name) == ("one", "two")


def test_no_info() -> None:
    """A plugin that does not say what it is cannot be used."""
    with pytest.raises(HookError, match=r"no answer to quanthost_backend_info\n.*a BackendInfo") as caught:
        Plugins([("npu", plugin(quanthost_validate=nothing))]).info("npu")
    assert caught.value.plugin == "npu"


def test_plugin_by_name(calls: list[str]) -> None:
    """The object is the one that was registered, not what pluggy holds for it."""
    backend, extension = Backend("one", calls), plugin(quanthost_validate=nothing)
    plugins = Plugins([("one", backend)], [("guard", extension)])
    assert plugins.plugin("one") is backend
    assert plugins.plugin("guard") is extension


def test_annotate_calls_one_backend(both: Plugins, calls: list[str]) -> None:
    """A backend's turn is its own: no other backend sees the graph then."""
    found = both.annotate("two", graph(), REQUEST, frozenset({"a", "b"}))
    assert calls == ["two"]
    assert found == [match_of("two"), RowMiss(node="a,b", row="conv", reason="no")]


def test_extensions_are_called_after_the_backend(calls: list[str]) -> None:
    """An extension may add matches to every backend's turn; the backend's come first."""
    extra = plugin(quanthost_annotate=lambda: [match_of("extra")])
    plugins = Plugins([("one", Backend("one", calls)), ("two", Backend("two", calls))], [("extra", extra)])
    for name in ("one", "two"):
        found = plugins.annotate(name, graph(), REQUEST, frozenset())
        assert [item.backend for item in found if isinstance(item, Match)] == [name, "extra"]


def test_order_of_priority(both: Plugins, calls: list[str]) -> None:
    """The first backend comes first wherever several are asked."""
    problems = both.validate(graph_module=graph(), decisions=(), request=REQUEST)
    assert [problem.message for problem in problems] == ["one", "two"]
    assert both.partitioners(REQUEST, str) == ["one/0", "one/1", "two/0", "two/1"]
    assert [options.runtime_modules for options in both.lowering_options(REQUEST)] == [("one",), ("two",)]
    assert both.transform(graph(), REQUEST).meta["order"] == ["one", "two"]
    assert both.backends == ("one", "two")


def test_extensions_come_last_and_once(calls: list[str]) -> None:
    """Extensions follow all backends, in their own order, and give their partitioners once."""
    plugins = Plugins(
        [("one", Backend("one", calls)), ("two", Backend("two", calls))],
        [("first", Backend("first", calls)), ("last", Backend("last", calls))],
    )
    assert plugins.partitioners(REQUEST, str) == [
        f"{name}/{i}" for name in ("one", "two", "first", "last") for i in (0, 1)
    ]
    assert plugins.transform(graph(), REQUEST).meta["order"] == ["one", "two", "first", "last"]


def test_transforms_are_chained(calls: list[str]) -> None:
    """Each transform gets what the one before it returned."""

    def add_tanh(graph_module: fx.GraphModule, request: Request) -> fx.GraphModule:
        made = fx.symbolic_trace(nn.Sequential(nn.Tanh(), nn.Sigmoid()))
        made.meta["before"] = graph_module.meta["order"]
        return made

    plugins = Plugins(
        [("one", Backend("one", calls))], [("new", plugin(quanthost_transform_for_annotation=add_tanh))]
    )
    assert plugins.transform(graph(), REQUEST).meta["before"] == ["one"]


def test_answers_that_are_none_are_none(calls: list[str]) -> None:
    """A plugin may leave a hook out or answer ``None``; a list may be empty or a tuple."""
    silent = plugin(quanthost_annotate=lambda: None, quanthost_validate=lambda: ())
    plugins = Plugins([("one", silent)])
    assert plugins.annotate("one", graph(), REQUEST, frozenset()) == []
    assert plugins.validate(graph_module=graph(), decisions=(), request=REQUEST) == []
    assert plugins.partitioners(REQUEST, str) == []
    assert plugins.lowering_options(REQUEST) == []
    assert plugins.runner(b"", REQUEST, ()) is None
    refusal = plugins.choose_qspecs("one", match_of("one"), REQUEST)
    assert refusal == Refusal(reason="no plugin chose qspecs for the row relu")


def test_runner(calls: list[str]) -> None:
    """The first plugin that gives a runner is taken, and is told the program."""

    def create(program: bytes) -> Callable[[list[Any]], list[Any]]:
        return lambda inputs: [program, *inputs]

    plugins = Plugins([("one", Backend("one", calls)), ("two", plugin(quanthost_create_runner=create))])
    runner = plugins.runner(b"pte", REQUEST, ())
    assert runner is not None
    assert runner([1]) == [b"pte", 1]


# wrappers


class Guard:
    """An extension that turns refusals into choices, and says what it saw."""

    def __init__(self, name: str = "guard") -> None:
        self.name = name
        self.seen: list[object] = []

    @hookimpl(wrapper=True)
    def quanthost_choose_qspecs(
        self, match: Match, request: Request
    ) -> Generator[None, QSpecChoice | Refusal, QSpecChoice | Refusal]:
        choice = yield
        self.seen.append(choice)
        return Refusal(reason=f"{choice.reason}, {self.name}") if isinstance(choice, Refusal) else choice


def test_wrapper_changes_the_choice_of_each_backend(calls: list[str]) -> None:
    """A wrapper sees the answer of the backend whose turn it is, and may replace it."""
    guard = Guard()
    plugins = Plugins([("one", Backend("one", calls)), ("two", Backend("two", calls))], [("guard", guard)])
    for name in ("one", "two"):
        choice = plugins.choose_qspecs(name, match_of(name), REQUEST)
        assert choice == Refusal(reason=f"{name} refuses relu, guard")
    assert guard.seen == [Refusal(reason="one refuses relu"), Refusal(reason="two refuses relu")]


def test_first_extension_is_outermost(calls: list[str]) -> None:
    """Of two wrappers, the first extension has the last word."""
    plugins = Plugins(
        [("one", Backend("one", calls))], [("outer", Guard("outer")), ("inner", Guard("inner"))]
    )
    choice = plugins.choose_qspecs("one", match_of("one"), REQUEST)
    assert choice == Refusal(reason="one refuses relu, inner, outer")


def test_wrapper_of_another_backend_is_not_called(calls: list[str]) -> None:
    """A backend may wrap its own choices, and nobody else's."""
    plugins = Plugins([("one", Backend("one", calls)), ("two", Guard("two"))])
    assert plugins.choose_qspecs("one", match_of("one"), REQUEST) == Refusal(reason="one refuses relu")


def test_old_style_wrapper(calls: list[str]) -> None:
    """pluggy's older form of a wrapper works as well."""

    class Old:
        @hookimpl(hookwrapper=True)
        def quanthost_choose_qspecs(self, match: Match) -> Generator[None, Any, None]:
            outcome = yield
            outcome.force_result(CHOICE)

    plugins = Plugins([("one", Backend("one", calls))], [("old", Old())])
    assert plugins.choose_qspecs("one", match_of("one"), REQUEST) is CHOICE


# wrong answers


ASK: dict[str, Callable[[Plugins], object]] = {
    "quanthost_backend_info": lambda plugins: plugins.info("one"),
    "quanthost_transform_for_annotation": lambda plugins: plugins.transform(graph(), REQUEST),
    "quanthost_annotate": lambda plugins: plugins.annotate("one", graph(), REQUEST, frozenset()),
    "quanthost_choose_qspecs": lambda plugins: plugins.choose_qspecs("one", match_of("one"), REQUEST),
    "quanthost_validate": lambda plugins: plugins.validate(
        graph_module=graph(), decisions=(), request=REQUEST
    ),
    "quanthost_create_partitioners": lambda plugins: plugins.partitioners(REQUEST, str),
    "quanthost_lowering_options": lambda plugins: plugins.lowering_options(REQUEST),
    "quanthost_create_runner": lambda plugins: plugins.runner(b"", REQUEST, ()),
}


@pytest.mark.parametrize(
    ("hook", "answer", "needed"),
    [
        ("quanthost_backend_info", "npu", "BackendInfo"),
        ("quanthost_transform_for_annotation", "graph", "GraphModule"),
        ("quanthost_transform_for_annotation", None, "GraphModule"),
        ("quanthost_annotate", [3], "Match or RowMiss"),
        ("quanthost_annotate", {}, "a list of Match or RowMiss"),
        ("quanthost_choose_qspecs", {}, "QSpecChoice or Refusal"),
        ("quanthost_validate", ["wide"], "Problem"),
        ("quanthost_create_partitioners", [3], "str"),
        ("quanthost_create_partitioners", "part", "a list of str"),
        ("quanthost_lowering_options", (), "LoweringOptions"),
        ("quanthost_create_runner", 3, "a callable or None"),
    ],
)
@pytest.mark.parametrize("culprit", ["one", "ext"])
def test_answer_of_the_wrong_type(hook: str, answer: Any, needed: str, culprit: str) -> None:
    """The error names hook, answer, what was needed, and the one plugin that gave it."""
    wrong = plugin(**{hook: lambda: answer})
    good = Backend("good", [])
    if culprit == "one":
        plugins = Plugins([("one", wrong), ("two", good)], [("other", good)])
    else:
        plugins = Plugins([("one", plugin()), ("two", plugin())], [("ext", wrong), ("other", good)])
    with pytest.raises(HookError, match=f"^{hook} returned ") as caught:
        ASK[hook](plugins)
    assert caught.value.plugin == culprit
    assert caught.value.needed == needed
    assert f"backend {culprit}" in str(caught.value)


def test_wrapper_that_spoils_the_answer(calls: list[str]) -> None:
    """Where the backend's answer was right, the wrapper is named."""

    class Spoiler:
        @hookimpl(wrapper=True)
        def quanthost_choose_qspecs(self) -> Generator[None, Any, Any]:
            yield
            return "int8"

        @hookimpl(wrapper=True)
        def quanthost_annotate(self) -> Generator[None, Any, Any]:
            yield
            return None

    plugins = Plugins([("one", Backend("one", calls))], [("spoiler", Spoiler()), ("good", plugin())])
    with pytest.raises(HookError, match=r"returned 'int8' of type str") as caught:
        plugins.choose_qspecs("one", match_of("one"), REQUEST)
    assert caught.value.plugin == "spoiler"
    with pytest.raises(HookError, match=r"returned None of type NoneType\n.*a list of answers") as caught:
        plugins.annotate("one", graph(), REQUEST, frozenset())
    assert caught.value.plugin == "spoiler"


def test_error_of_a_plugin_is_not_hidden() -> None:
    """What a hook raises is the cause of an error that names hook and plugin."""

    def fail() -> BackendInfo:
        raise ZeroDivisionError("in the plugin")

    with pytest.raises(HookError, match="info raised ZeroDivisionError: in the plugin") as caught:
        Plugins([("npu", plugin(quanthost_backend_info=fail))]).info("npu")
    assert caught.value.plugin == "npu"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_hooks_get_what_they_ask_for(hook: Callable[..., Any]) -> None:
    """Every hook can be written with no argument at all, as a plain function, a method or a static one."""

    class Static:
        pass

    setattr(Static, hook.__name__, staticmethod(hookimpl(lambda: None)))
    for made in (plugin(**{hook.__name__: lambda: None}), Static()):
        assert Plugins([("npu", made)]).plugin("npu") is made
