"""Matches, choices and decisions."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import (
    Cause,
    Decision,
    DType,
    Gain,
    Kernel,
    Match,
    QSpec,
    QSpecChoice,
    Refusal,
    Role,
    Verdict,
)

SPEC = QSpec(dtype=DType.INT8)
MATCH = Match(
    backend="npu",
    row="conv_relu",
    kernel=Kernel.STATIC,
    nodes=["conv2d", "relu"],
    captures={"input": "x", "weight": "p_weight"},
    roles={"weight": Role.WEIGHT, "indices": Role.PASSTHROUGH},
)
DECISION = Decision(
    node="relu", operator="aten.relu.default", verdict=Verdict.FLOAT, cause=Cause.NO_ROW, reason="no row"
)


def test_match_reads() -> None:
    """The last node computes the output; captures without a role are activations, items of a list too."""
    assert MATCH.output == "relu"
    assert MATCH.role("weight") is Role.WEIGHT
    assert MATCH.role("indices.3") is Role.PASSTHROUGH
    assert MATCH.role("input") is MATCH.role("output") is Role.ACTIVATION
    assert MATCH.gain is Gain.FOLLOWS


def test_order_of_captures_is_kept() -> None:
    """Captures are in the order of the pattern."""
    assert MATCH.captures == (("input", "x"), ("weight", "p_weight"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"backend": "N"}, "the name 'N'\n.*\n.*where:  Match.backend"),
        ({"row": ""}, "where:  Match.row"),
        ({"kernel": "static"}, "needed: Kernel"),
        ({"nodes": ()}, "no node\n.*the last computes the output"),
        ({"nodes": "conv2d"}, "needed: a tuple\n.*where:  Match.nodes"),
        ({"nodes": [1]}, "1 of type int"),
        ({"captures": {"input": None}}, "needed: str\n.*where:  Match.captures"),
        ({"captures": ["input"]}, "a name with its value\n.*where:  Match.captures"),
        ({"roles": {"weight": "weight"}}, "needed: Role\n.*where:  Match.roles"),
        ({"shares": "output"}, "needed: a tuple\n.*where:  Match.shares"),
        ({"gain": True}, "needed: Gain"),
    ],
)
def test_match_that_does_not_fit(fields: dict[str, Any], problem: str) -> None:
    """An inconsistent match is refused when it is created."""
    with pytest.raises(ValueCheckError, match=problem):
        attrs.evolve(MATCH, **fields)


def test_choice() -> None:
    """A choice converts to a dictionary; the name of a dtype instead of a qspec is refused."""
    assert QSpecChoice(qspecs={"input": SPEC}).as_dict() == {"input": SPEC}
    assert QSpecChoice(qspecs={}).as_dict() == {}
    with pytest.raises(ValueCheckError, match=r"'int8' of type str\n.*\n.*where:  QSpecChoice.qspecs"):
        QSpecChoice(qspecs={"input": "int8"})


def test_refusal() -> None:
    """A refusal has a reason in words, and the cause ``REFUSAL`` by default."""
    assert Refusal(reason="too wide").cause is Cause.REFUSAL
    with pytest.raises(ValueCheckError, match=r"where:  Refusal.reason"):
        Refusal(reason=None)  # type: ignore[arg-type]
    with pytest.raises(ValueCheckError, match="needed: Cause"):
        Refusal(reason="too wide", cause="cost")  # type: ignore[arg-type]


def test_delegated_has_three_states() -> None:
    """Not lowered yet, in a delegate, or not: ``False`` is not ``None``."""
    assert DECISION.delegated is None
    assert attrs.evolve(DECISION, delegated=False).delegated is False
    with pytest.raises(ValueCheckError, match="needed: bool or None"):
        attrs.evolve(DECISION, delegated=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["node", "operator", "verdict", "cause", "reason", "module", "placement"])
def test_decision_that_does_not_fit(field: str) -> None:
    """Each field is checked, in a changed copy too."""
    wrong: dict[str, Any] = {field: 3}
    with pytest.raises(ValueCheckError, match=f"where:  Decision.{field}"):
        attrs.evolve(DECISION, **wrong)
