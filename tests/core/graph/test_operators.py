"""Names and arguments of operators, the same for captured and edge graphs."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from torch import fx

from quanthost.graph.operators import (
    argument,
    arguments,
    functional_name,
    name_matches,
    operator_name,
    overload,
)

ATEN = torch.ops.aten


class EdgeOperator:
    """What an edge program calls: a wrapper around the aten overload."""

    def __init__(self, op: torch._ops.OpOverload) -> None:
        self._op = op
        self.__name__ = op.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._op(*args, **kwargs)


def call(target: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """A call whose tensor operands are placeholders: ``...`` stands for one."""
    graph = fx.Graph()
    held = [graph.placeholder(f"x{i}") if arg is ... else arg for i, arg in enumerate(args)]
    return graph.call_function(target, tuple(held), kwargs)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (ATEN.conv2d.default, "aten.conv2d.default"),
        (ATEN.conv2d.padding, "aten.conv2d.padding"),
        (ATEN.relu_.default, "aten.relu_.default"),
        (ATEN.view_copy.default, "aten.view.default"),
        (ATEN.slice_copy.Tensor, "aten.slice.Tensor"),
        (ATEN._to_copy.default, "aten._to_copy.default"),
        (ATEN.lift_fresh_copy.default, "aten.lift_fresh_copy.default"),
        (EdgeOperator(ATEN.permute_copy.default), "aten.permute.default"),
        (EdgeOperator(ATEN.add.Tensor), "aten.add.Tensor"),
        (operator.getitem, "getitem"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_operator_name(target: Any, name: str) -> None:
    """An edge operator has the name of the aten one, and a copying view that of the view."""
    assert operator_name(call(target)) == name


def test_overload_of_what_is_no_operator() -> None:
    """A Python function has no schema."""
    assert overload(call(operator.getitem)) is None
    assert overload(call(EdgeOperator(ATEN.add.Tensor))) is ATEN.add.Tensor


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("aten.relu_.default", "aten.relu.default"),
        ("aten.add_.Tensor", "aten.add.Tensor"),
        ("aten.relu.default", "aten.relu.default"),
        ("aten.__and__.Tensor", "aten.__and__.Tensor"),
        ("getitem", "getitem"),
    ],
)
def test_functional_name(name: str, twin: str) -> None:
    """Only a single trailing underscore marks an operator that works in place."""
    assert functional_name(name) == twin


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("conv2d", "aten.conv2d.default", True),
        ("conv2d.padding", "aten.conv2d.padding", True),
        ("conv2d.padding", "aten.conv2d.default", False),
        ("aten.conv2d", "aten.conv2d.default", True),
        ("aten.conv2d.default", "aten.conv2d.default", True),
        ("conv", "aten.conv2d.default", False),
        ("add", "aten.add_.Tensor", False),
        ("aten", "aten.add.Tensor", False),
        (
            "quantized_decomposed.quantize_per_tensor",
            "quantized_decomposed.quantize_per_tensor.default",
            True,
        ),
        ("quantize_per_tensor", "quantized_decomposed.quantize_per_tensor.default", False),
        ("mylib.fused_norm", "mylib.fused_norm.default", True),
        ("fused_norm", "mylib.fused_norm.default", False),
        ("getitem", "getitem", True),
    ],
)
def test_name_matches(pattern: str, name: str, matches: bool) -> None:
    """Namespace aten and overload may be left out; a name is never matched by a part of it."""
    assert name_matches(pattern, name) is matches


def test_arguments_have_schema_names_and_defaults() -> None:
    """What the call leaves out has the schema's default, wherever it stands."""
    given = arguments(call(ATEN.conv2d.default, ..., ..., None, [2, 2]))
    assert list(given) == ["input", "weight", "bias", "stride", "padding", "dilation", "groups"]
    assert (given["bias"], given["stride"], given["padding"], given["groups"]) == (None, [2, 2], [0, 0], 1)


def test_keyword_arguments() -> None:
    """An argument that only a keyword gives, and one that the keyword gives as zero."""
    node = call(ATEN.add.Tensor, ..., ..., alpha=0)
    assert argument(node, "alpha") == 0
    assert argument(node, "other") is node.args[1]
    assert argument(call(ATEN.add.Tensor, ..., ...), "alpha") == 1


def test_argument_that_the_operator_does_not_have() -> None:
    """The default stands for a missing argument, not for one that is ``None``."""
    node = call(ATEN.conv2d.default, ..., ...)
    assert argument(node, "alpha", 7) == 7
    assert argument(node, "bias", 7) is None


def test_arguments_without_a_schema() -> None:
    """A Python function's arguments have their positions for names."""
    node = call(operator.getitem, ..., 1)
    assert arguments(node) == {"0": node.args[0], "1": 1}
