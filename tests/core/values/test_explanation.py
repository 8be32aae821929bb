"""Explanations: what they refuse, and the way to JSON and back."""

from __future__ import annotations

import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import Cause, Decision, Verdict, from_json, to_json
from quanthost.values.explanation import Explanation, Search, Why

DECISION = Decision(
    node="tanh", operator="aten.tanh.default", verdict=Verdict.FLOAT, cause=Cause.NO_ROW, reason="no row"
)
FOUND = Explanation(
    model="Net", backends=["npu"], recipe="int8_static", selector="tanh",
    operators=[
        Why(
            decision=DECISION,
            captured=[Search(backend="npu", node="tanh", operator="aten.tanh.default", others=3)],
        )
    ],
)  # fmt: skip


def test_json_and_back() -> None:
    """Equal, with tuples where lists were given."""
    assert from_json(Explanation, to_json(FOUND)) == FOUND
    assert FOUND.operators[0].captured[0].others == 3


def test_fields_are_checked() -> None:
    """A count is a number."""
    with pytest.raises(ValueCheckError, match="others"):
        Search(backend="npu", node="tanh", operator="aten.tanh.default", others="3")
