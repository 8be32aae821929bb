"""Rows over drawn shapes, channels, strides, dilations, groups, paddings, dimensions and memory layouts."""

from __future__ import annotations

from typing import Any

import pytest
from builders import build
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from judging import judged, rows_of
from kit import Case
from whole import part

from quanthost.api import Kernel

pytestmark = pytest.mark.slow

# rows that are drawn together; an example is one program
TOGETHER = 12
EXAMPLES = {Kernel.STATIC: 4, Kernel.FLOAT: 3, Kernel.DYNAMIC: 3}

_drawn = settings(
    derandomize=True, deadline=None, database=None, phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


def _groups(kernel: Kernel) -> list[list[str]]:
    rows = rows_of(kernel)
    return [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]


def _cases(data: st.DataObject, rows: list[str]) -> list[Case]:
    def pick(*options: Any) -> Any:
        return options[data.draw(st.integers(0, len(options) - 1))]

    cases = [build(row, pick) for row in rows]
    for case in cases:
        shapes = [(tuple(x.shape), x.stride()) for x in case.inputs]
        note(f"{case.row}: {case.module}, inputs {shapes}")
    return cases


@pytest.mark.parametrize("rows", part(_groups(Kernel.STATIC), 2), ids=lambda rows: f"{rows[0]}..{rows[-1]}")
@settings(_drawn, max_examples=EXAMPLES[Kernel.STATIC])
@given(data=st.data())
def test_integer_kernels(rows: list[str], data: st.DataObject) -> None:
    """At most one step between runtime and q/dq form, and nothing outside of the delegate."""
    _, problems = judged(_cases(data, rows), "int8_static")

    assert problems == []


@pytest.mark.parametrize("rows", part(_groups(Kernel.FLOAT), 2), ids=lambda rows: f"{rows[0]}..{rows[-1]}")
@settings(_drawn, max_examples=EXAMPLES[Kernel.FLOAT])
@given(data=st.data())
def test_float_kernels(rows: list[str], data: st.DataObject) -> None:
    """The model's own results to 1e-4 of the largest."""
    _, problems = judged(_cases(data, rows), "fp32")

    assert problems == []


@pytest.mark.parametrize("recipe", ["int8_dynamic", "int4_group_dynamic"])
@settings(_drawn, max_examples=EXAMPLES[Kernel.DYNAMIC])
@given(data=st.data())
def test_ranges_at_run_time(recipe: str, data: st.DataObject) -> None:
    """Linear layers of each rank; what the q/dq form computes row by row."""
    _, problems = judged(_cases(data, ["linear", "linear_relu", "linear_hardtanh"]), recipe)

    assert problems == []
