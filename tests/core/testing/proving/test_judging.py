"""Judging: what differs by too much, and what a decision must say."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from toy_backends import RECIPE, ROWS

from quanthost.api import Kernel, Recipe, SupportTable
from quanthost.testing import Tolerance
from quanthost.testing.proving.executing import OutputValues
from quanthost.testing.proving.flow import SampleResult
from quanthost.testing.proving.judging import (
    check_decisions,
    check_delegation,
    compare_golden,
    compare_model,
    compare_runtime,
    find_float,
    follows_golden,
    is_split_among_rows,
)
from quanthost.testing.proving.row_checks import RowCheck, SamplePlan
from quanthost.values import Cause, Decision, Verdict

FLOAT = Recipe(name="fp32", kernel=Kernel.FLOAT)
VALUES = torch.linspace(-1, 1, 9)


def output(runtime: torch.Tensor, **fields: Any) -> OutputValues:
    values: dict[str, Any] = {"model": VALUES, "qdq": VALUES, "golden": None, "scale": None}
    return OutputValues(**{**values, **fields, "runtime": runtime})


def result(*outputs: OutputValues, decisions: tuple[Decision, ...] = (), **fields: Any) -> SampleResult:
    return SampleResult(
        decisions=decisions, runs=((), outputs) if fields.pop("beyond", False) else (outputs,), problems=(),
        no_golden="", **fields,
    )  # fmt: skip


def decision(verdict: Verdict = Verdict.FLOAT, **fields: Any) -> Decision:
    values: dict[str, Any] = {
        "node": "relu", "operator": "aten.relu.default", "module": "cases.0", "reason": "why",
        "cause": Cause.NO_ROW,
    }  # fmt: skip
    if verdict is Verdict.QUANTIZED:
        values |= {"backend": "toy", "row": "relu", "recipe": "int8_static", "cause": Cause.ROW}
    return Decision(verdict=verdict, **{**values, **fields})


def test_equal_outputs() -> None:
    assert compare_runtime(result(output(VALUES, golden=VALUES, scale=0.1)), RECIPE, None) is None


@pytest.mark.parametrize(
    ("runtime", "fields", "problem"),
    [
        (
            VALUES + 0.25,
            {"scale": 0.1},
            "runtime and q/dq form differ by 2.5 LSB (1.001 is allowed)",
        ),
        (VALUES + 0.01, {}, "runtime and q/dq form differ by 0.01 of 1 (1e-04 is allowed)"),
        (VALUES[:3], {}, "the runtime gives torch.float32 [3], the q/dq form torch.float32 [9]"),
        (VALUES * float("nan"), {}, "the runtime gives NaN"),
        (torch.tensor([1, 2]), {"qdq": torch.tensor([1, 3])}, "1 of 2 differ"),
    ],
    ids=["steps", "relative", "shape", "nan", "integers"],
)
def test_different_outputs(runtime: torch.Tensor, fields: dict[str, Any], problem: str) -> None:
    """The problem says by how much, and what is allowed."""
    assert compare_runtime(result(output(runtime, **fields)), RECIPE, None) == f"output 0: {problem}"


def test_a_stated_tolerance() -> None:
    """It replaces the usual limit, in steps or relative to the largest value."""
    two_steps = result(output(VALUES + 0.2, scale=0.1))
    relative = result(output(VALUES + 0.01))

    assert compare_runtime(two_steps, RECIPE, None) is not None
    assert compare_runtime(two_steps, RECIPE, Tolerance(case="*", reason="r", lsb=2)) is None
    assert compare_runtime(relative, RECIPE, Tolerance(case="*", reason="r", relative=0.02)) is None


def test_a_result_that_is_read_on() -> None:
    """A float operator may read an integer that is a step off."""
    off = result(output(VALUES + 0.1, source_scale=0.1))

    assert compare_runtime(off, RECIPE, None) is not None
    assert compare_runtime(off, RECIPE, None, read_on=True) is None


def test_golden_form() -> None:
    """Integers are equal, or within the stated steps; the run is named."""
    off = result(output(VALUES + 0.1, golden=VALUES, scale=0.1), beyond=True)
    problem = compare_golden(off, None)

    assert problem is not None
    assert problem.startswith("output 0 beyond the calibrated range: 9 of 9 integers differ")
    assert "by up to 1 LSB (0 is allowed)" in problem
    assert compare_golden(off, Tolerance(case="*", reason="r", lsb=1)) is None


def test_what_follows_the_golden_form() -> None:
    """Each result is quantized, and at most a rounded tie away from the golden form's."""
    far = VALUES + 0.5
    assert follows_golden(result(output(far, golden=far, scale=0.1)))
    assert follows_golden(result(output(far, golden=far + 0.1, scale=0.1)))
    assert not follows_golden(result(output(far, golden=VALUES, scale=0.1)))
    assert not follows_golden(result(output(far, golden=far)))
    assert not follows_golden(result(output(far, scale=0.1)))


@pytest.mark.parametrize(
    ("recipe", "noise", "is_near"), [(RECIPE, 0.01, True), (RECIPE, 0.3, False), (FLOAT, 0.01, False)]
)
def test_model(recipe: Recipe, noise: float, is_near: bool) -> None:
    """Eight bits need 20 dB, float needs 80."""
    problem = compare_model(result(output(VALUES, qdq=VALUES + noise)), recipe)

    assert (problem is None) is is_near


def test_float_operators() -> None:
    """Those that stay float are named with their reason; folded ones are not."""
    decisions = (decision(), decision(Verdict.QUANTIZED), decision(Verdict.FOLDED, node="bn"))

    assert find_float(decisions) == "relu (aten.relu.default) is float: why"
    assert find_float(decisions[1:]) is None
    assert is_split_among_rows(result(decisions=decisions))
    assert not is_split_among_rows(result(decisions=decisions[1:]))


def test_delegation() -> None:
    """What a row quantizes lies in the delegate, and not in a float kernel there."""
    table = SupportTable(ROWS)
    inside = decision(Verdict.QUANTIZED, delegated=True, placement="delegate")
    outside = attrs.evolve(inside, delegated=False, placement="portable")

    assert check_delegation(result(decisions=(inside,)), RECIPE, table) is None
    problem = check_delegation(result(decisions=(outside,)), RECIPE, table)
    assert problem is not None
    assert problem.endswith("is not in the delegate: portable")
    in_float = result(decisions=(inside,), in_float=frozenset({"relu"}))
    assert "only a float kernel" in str(check_delegation(in_float, RECIPE, table))


HOLDS = RowCheck(row="relu", nodes=("relu",), refusals=())
REFUSES = RowCheck(row="relu", nodes=("relu",), refusals=(("rank 1 to 6", "rank 0"),))


@pytest.mark.parametrize(
    ("verdict", "fields", "checks", "problem"),
    [
        (Verdict.QUANTIZED, {}, (HOLDS,), None),
        (Verdict.QUANTIZED, {}, (REFUSES,), "which refuses it: rank 0"),
        (Verdict.QUANTIZED, {"row": "other"}, (HOLDS,), "whose pattern is not there"),
        (Verdict.FLOAT, {}, (), None),
        (Verdict.FLOAT, {}, (HOLDS,), "though the row relu holds there"),
        (Verdict.FLOAT, {}, (REFUSES,), "without the reason that its row gives (rank 0)"),
        (Verdict.FLOAT, {"cause": Cause.CONSTRAINT}, (REFUSES,), None),
    ],
)
def test_decisions(
    verdict: Verdict, fields: dict[str, Any], checks: tuple[RowCheck, ...], problem: str | None
) -> None:
    """A decision agrees with what the table says at its node."""
    plan = SamplePlan(decisions=(decision(verdict, **fields),), matches=(), row_checks=checks)
    text = check_decisions(plan, RECIPE)

    assert text is None if problem is None else problem in str(text)
    assert check_decisions(plan, FLOAT) is None
