"""Operators element by element become operators on integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from qdq_graphs import convert, image, operators, steps


@pytest.mark.parametrize(
    ("function", "kind"),
    [(torch.add, "Add"), (torch.sub, "Add"), (torch.mul, "Multiply"), (torch.maximum, "Extremum")],
    ids=["add", "sub", "mul", "maximum"],
)
def test_two_tensors(function: Callable[..., Any], kind: str) -> None:
    """One operator with both inputs, a step from the q/dq form at most."""
    wanted, result, forms, module = convert(function, image(4, 9), image(4, 9).flip(0) / 2)

    assert operators(module) == [kind]
    assert not forms.islands
    assert steps(wanted, result) <= 1


def test_a_function_is_a_table() -> None:
    """Of one 8-bit number a function is looked up, with the integers of the q/dq form."""
    wanted, result, _, module = convert(torch.tanh, image(4, 9))

    assert operators(module) == ["Lookup"]
    assert torch.equal(wanted, result)
