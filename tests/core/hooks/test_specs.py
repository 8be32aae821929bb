"""The hook specifications: what a plugin can rely on."""

from __future__ import annotations

import inspect
import sys

import attrs
import pluggy
import pytest

from quanthost.hooks import specs
from quanthost.hooks.specs import HOOKS, PROJECT, LoweringOptions, Problem, RowMiss

CONTRACT = {
    "quanthost_backend_info": ((), True),
    "quanthost_transform_for_annotation": (("graph_module", "request"), False),
    "quanthost_annotate": (("graph_module", "request", "open_nodes"), False),
    "quanthost_choose_qspecs": (("match", "request"), True),
    "quanthost_validate": (("graph_module", "decisions", "request"), False),
    "quanthost_create_partitioners": (("request",), False),
    "quanthost_lowering_options": (("request",), True),
    "quanthost_create_runner": (("program", "request", "pieces"), True),
}


def test_contract() -> None:
    """Names, arguments and kinds of the hooks; a plugin in the field breaks when one of them changes."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    found = {}
    for name in CONTRACT:
        spec = getattr(manager.hook, name).spec
        found[name] = (tuple(inspect.signature(spec.function).parameters), spec.opts["firstresult"])
    assert found == CONTRACT


def test_list_of_hooks_is_complete() -> None:
    """Every specification of the module is listed, in the order in which a run calls them."""
    assert [hook.__name__ for hook in HOOKS] == list(CONTRACT)
    functions = inspect.getmembers(sys.modules[specs.__name__], inspect.isfunction)
    assert {name for name, _ in functions if name.startswith("quanthost_")} == set(CONTRACT)


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_specification_is_documented_and_never_called(hook: object) -> None:
    """A specification says what it is for; it has no default behaviour that a plugin could lean on."""
    assert inspect.getdoc(hook)
    assert callable(hook)
    with pytest.raises(NotImplementedError):
        hook(*[None] * len(inspect.signature(hook).parameters))


def test_records_are_frozen_and_need_all_that_has_no_default() -> None:
    """A miss and a problem are whole; lowering options may say nothing."""
    miss = RowMiss(node="conv2d", row="conv", reason="stride 3")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        miss.reason = ""  # type: ignore[misc]
    with pytest.raises(TypeError, match="remedy"):
        Problem(node="conv2d", message="too wide")  # type: ignore[call-arg]
    assert LoweringOptions() == LoweringOptions(
        passes=(), edge_compile_config=None, backend_config=None, around=None, runtime_modules=()
    )
