"""An explanation in words."""

from __future__ import annotations

from rich.console import Console

from quanthost.report.why_text import explanation
from quanthost.values import Cause, Decision, Verdict
from quanthost.values.explanation import Explanation, Search, Why

DECISION = Decision(
    node="tanh", operator="aten.tanh.default", verdict=Verdict.FLOAT, cause=Cause.NO_ROW,
    reason="no row has it", module="head",
)  # fmt: skip
SEARCH = Search(backend="npu", node="tanh", operator="aten.tanh.default", recipe="int8_static", others=3)


def _printed(*operators: Why, note: str = "") -> str:
    found = Explanation(
        model="Net", backends=("npu",), recipe="int8_static", selector="tanh", operators=operators, note=note
    )
    console = Console(width=80)
    with console.capture() as captured:
        for part in explanation(found):
            console.print(part)
    return captured.get()


def test_an_operator() -> None:
    """Where it stands, its verdict, and how many rows were left out of the search."""
    text = _printed(Why(decision=DECISION, captured=(SEARCH,)), note="not lowered")

    assert text.startswith("tanh")
    assert "head" in text
    assert "float: no row has it" in text
    assert "captured graph, npu, int8_static: tanh" in text
    assert "3 rows do not mention tanh" in text
    assert text.rstrip().endswith("not lowered")


def test_an_operator_that_is_gone() -> None:
    """Nothing was searched, and that is said."""
    assert "no longer contains it" in _printed(Why(decision=DECISION, captured=()))
