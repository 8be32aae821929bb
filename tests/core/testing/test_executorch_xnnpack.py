"""The suite over ExecuTorch's own quantizer and partitioner: it passes with one expected failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from executorch_xnnpack import backend

from quanthost.testing import Outcome, check_backend

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXPECTED = """
[[expected]]
case = "networks/twice/int8_static"
reason = "the second use of a shared weight stays float, and the delegate has its bias in int32"
"""
CASES = ("networks/twice/*", "*/*/linear.default/*", "*/*/relu.default/*", "*/*/sort.default/*")


def test_each_operator_is_tried(tmp_path: Path) -> None:
    """Without a table, in four areas; a convolution for two inputs is what fails, as expected."""
    file = tmp_path / "expected.toml"
    file.write_text(EXPECTED, encoding="utf-8")

    conformance = check_backend(backend, only=CASES, expected=file)

    outcomes = {case.id: case.outcome for case in conformance.cases}
    assert conformance.conforms
    assert [id for id, outcome in outcomes.items() if outcome is Outcome.XFAILED] == [
        "networks/twice/int8_static"
    ]
    assert {case.area.value for case in conformance.cases} == {
        "networks", "table", "qspecs", "placement", "numbers"
    }  # fmt: skip
    assert outcomes["qspecs/bias/linear.default/plain/int8_dynamic"] is Outcome.PASSED
    assert outcomes["numbers/positive/relu.default/plain/int8_static"] is Outcome.PASSED


def test_the_reason_is_gone_with_the_entry() -> None:
    """The same case without its entry fails, with the graph that shows it."""
    conformance = check_backend(backend, only="networks/twice/int8_static")

    (case,) = conformance.failures()
    assert "could not execute the program" in case.message
    assert case.graph.count("aten.conv2d.default") == 2
