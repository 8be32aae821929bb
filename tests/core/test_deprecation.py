"""What goes away still works, and warns: with what to use, until when, at the line of whoever uses it."""

from __future__ import annotations

import inspect
import sys
import types
import warnings
from typing import Any

import attrs
import pytest

import quanthost
from quanthost import api, deprecation
from quanthost.deprecation import Deprecated, QuanthostDeprecationWarning, old_names, renamed_argument
from quanthost.hooks import manager
from quanthost.hooks.manager import Plugins
from quanthost.hooks.specs import hookimpl
from quanthost.values import BackendInfo, Kernel, Recipe

OLD = Deprecated(name="sample.Old", instead="quanthost.values.Kernel", removed_in="0.9")
TEXT = "sample.Old is deprecated and will be removed in quanthost 0.9; use quanthost.values.Kernel instead"
INFO = BackendInfo(name="b", recipes=[Recipe(name="fp32", kernel=Kernel.FLOAT)])


@attrs.frozen
class Warned:
    text: str
    file: str
    line: int


def warned(call: Any) -> list[Warned]:
    """The deprecations that a call warns of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    assert all(issubclass(w.category, QuanthostDeprecationWarning) for w in seen)
    return [Warned(str(w.message), w.filename, w.lineno) for w in seen]


def line_of(function: Any) -> int:
    """The line below the head of a function that has one statement."""
    return inspect.getsourcelines(function)[1] + 1


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module with an old name."""
    module = types.ModuleType("sample")
    module.__getattr__ = old_names("sample", {"Old": OLD})  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "sample", module)
    return module


def test_an_old_name_gives_its_successor(sample: types.ModuleType) -> None:
    """By attribute and by import, with the caller's line; a name that never was is an error as ever."""

    def attribute() -> None:
        assert sample.Old is Kernel

    def imported() -> None:
        from sample import Old  # type: ignore[import-not-found]  # noqa: F401

    for use in (attribute, imported):
        assert warned(use) == [Warned(TEXT, __file__, line_of(use))]
    with pytest.raises(AttributeError, match="module 'sample' has no attribute 'Other'"):
        _ = sample.Other


@pytest.mark.parametrize("module", [quanthost, api], ids=lambda module: module.__name__)
def test_the_public_modules_have_old_names(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of each is asked; the warning points past the module's own functions."""
    old = OLD._replace(name=f"{module.__name__}.Arithmetic")
    monkeypatch.setitem(module._OLD, "Arithmetic", old)

    def attribute() -> None:
        assert module.Arithmetic is Kernel

    assert warned(attribute) == [Warned(str(old), __file__, line_of(attribute))]
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = module.Nothing


def test_every_old_name_has_its_successor() -> None:
    """What the tables promise is there."""
    for module in (quanthost, api):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", QuanthostDeprecationWarning)
            for name in module._OLD:
                assert getattr(module, name) is not None


@renamed_argument("size", "count", removed_in="0.9")
def take(count: int = 1, *, other: int = 0) -> tuple[int, int]:
    """A function whose argument was renamed."""
    return count, other


@renamed_argument("size", "count", removed_in="0.9")
@attrs.frozen(kw_only=True)
class Box:
    """A record whose field was renamed."""

    count: int


def test_an_argument_by_its_old_name() -> None:
    """Of a function and of a record; the new name and positions warn of nothing."""

    def call() -> None:
        assert take(size=3, other=2) == (3, 2)  # type: ignore[call-arg]

    def make() -> None:
        assert Box(size=3).count == 3  # type: ignore[call-arg]

    end = " is deprecated and will be removed in quanthost 0.9; use count=… instead"
    assert warned(call) == [Warned(f"take(size=…){end}", __file__, line_of(call))]
    assert warned(make) == [Warned(f"Box(size=…){end}", __file__, line_of(make))]
    assert warned(lambda: (take(3), take(count=3), Box(count=3))) == []
    assert take.__doc__ == "A function whose argument was renamed."


def test_both_names_at_once_are_refused() -> None:
    """Neither is taken for the other."""
    with pytest.raises(TypeError, match=r"take\(\) got 'count' and its old name 'size'"):
        take(count=1, size=2)  # type: ignore[call-arg]


class Plugin:
    """A backend that asks for an argument."""

    @hookimpl
    def quanthost_backend_info(self) -> BackendInfo:
        return INFO

    @hookimpl
    def quanthost_annotate(self, request: Any) -> list[Any]:
        return []


@pytest.mark.parametrize("key", ["quanthost_annotate", "quanthost_annotate.request"])
def test_an_old_hook_or_argument_warns_at_the_plugins_line(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the plugin is loaded, once for each; it works all the same."""
    old = Deprecated(name=key, instead="another", removed_in="0.9")
    monkeypatch.setitem(manager.DEPRECATED, key, old)
    first = inspect.getsourcelines(Plugin.quanthost_annotate)[1]
    found = warned(lambda: Plugins([("b", Plugin())]))
    assert found == [Warned(str(old), __file__, first)]


def test_hooks_of_the_host_itself_do_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table backend inherits all hooks, and is not to blame for them."""
    monkeypatch.setitem(manager.DEPRECATED, "quanthost_annotate", OLD)
    backend = api.TableBackend(info=INFO, table=api.SupportTable([]))
    assert warned(lambda: Plugins([("b", backend)])) == []


def test_filters_can_name_the_category() -> None:
    """It is a DeprecationWarning, which test runners show, and public under both modules."""
    assert issubclass(QuanthostDeprecationWarning, DeprecationWarning)
    assert (
        quanthost.QuanthostDeprecationWarning
        is api.QuanthostDeprecationWarning
        is QuanthostDeprecationWarning
    )
    assert set(deprecation.__all__) >= {"Deprecated", "renamed_argument"}
