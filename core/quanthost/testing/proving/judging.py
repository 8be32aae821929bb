"""Judges a sample that was planned or run; each function returns the problem as text, ``None`` if none."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quanthost.graph.table import SupportTable
from quanthost.testing.expectations import Tolerance
from quanthost.testing.proving.executing import OutputValues
from quanthost.testing.proving.flow import SampleResult
from quanthost.testing.proving.row_checks import SamplePlan
from quanthost.values import Cause, Decision, Kernel, QSpec, Recipe, Verdict

__all__ = [
    "CHAIN_SLACK",
    "check_decisions",
    "check_delegation",
    "compare_golden",
    "compare_model",
    "compare_runtime",
    "drop_folded",
    "find_float",
    "follows_golden",
    "is_split_among_rows",
]

# largest difference between runtime and q/dq form, in steps of the result's scale: rounding of ties
MOST_STEPS = 1.001
# the same of a float result, over the largest value; where ranges come from run time, a zero point may be
# rounded the other way, so that inputs are off by a step of 255
MOST_RELATIVE = {
    Kernel.STATIC: 1e-4, Kernel.FLOAT: 1e-4, Kernel.WEIGHT_ONLY: 1e-4, Kernel.DYNAMIC: 1e-2,
}  # fmt: skip
# signal to quantization noise of the q/dq form on calibration data, in dB, by the bits of the narrowest spec
LEAST_SQNR = {4: 8.0, 8: 20.0, 16: 40.0}
# two operators, each a step off: the second may amplify the error of the first
CHAIN_SLACK = 3.0
_NO_WORK = ("getitem",)
# the runs of a sample, in order
_WHERE = ("", " beyond the calibrated range", " at a smaller size than it was captured with")


def drop_folded(decisions: tuple[Decision, ...]) -> list[Decision]:
    """The decisions on operators that stay in the graph."""
    return [d for d in decisions if d.verdict is not Verdict.FOLDED and d.operator not in _NO_WORK]


def find_float(decisions: tuple[Decision, ...]) -> str | None:
    """The operators that are left in float."""
    float_decisions = (d for d in drop_folded(decisions) if d.verdict is not Verdict.QUANTIZED)
    return "; ".join(f"{d.node} ({d.operator}) is float: {d.reason}" for d in float_decisions) or None


def is_split_among_rows(result: SampleResult) -> bool:
    """Whether a row quantizes only a part of the sample, and may amplify an error of its input."""
    rows = {d.row if d.verdict is Verdict.QUANTIZED else None for d in drop_folded(result.decisions)}
    return len(rows) > 1


def check_delegation(result: SampleResult, recipe: Recipe, table: SupportTable | None) -> str | None:
    """What a row quantizes for the delegate must lie in it, in integers: float there gains nothing."""
    rows = {row.name for row in table or () if row.delegated}
    for decision in drop_folded(result.decisions):
        if decision.verdict is not Verdict.QUANTIZED or decision.row not in rows:
            continue
        here = f"{decision.node} ({decision.operator}) is quantized by {decision.row}, and"
        if decision.delegated is False and decision.in_program is not False:
            return f"{here} is not in the delegate: {decision.placement}"
        if recipe.kernel is Kernel.STATIC and decision.node in result.in_float:
            return f"{here} only a float kernel takes its edge operators"
    return None


def check_decisions(plan: SamplePlan, recipe: Recipe) -> str | None:
    """The decision on each node must be what the table says, and have a reason."""
    if recipe.kernel is Kernel.FLOAT:
        return None
    return next(iter(_find_disagreements(plan)), None)


def _find_disagreements(plan: SamplePlan) -> Iterator[str]:
    for decision in drop_folded(plan.decisions):
        checks = [check for check in plan.checks_at(decision.node) if check.whole]
        here = f"{decision.node} ({decision.operator})"
        if decision.verdict is Verdict.QUANTIZED:
            own = [check for check in checks if check.row == decision.row]
            if own and not any(check.holds for check in own):
                reason = own[0].refusals[0][1]
                yield f"{here} is quantized by the row {decision.row}, which refuses it: {reason}"
            if checks and not own:
                yield f"{here} is quantized by {decision.row}, whose pattern is not there"
            continue
        if not decision.reason.strip():
            yield f"{here} is float without a reason"
        if decision.cause is not Cause.NO_ROW:
            continue
        holding = [check.row for check in checks if check.holds]
        if holding:
            yield f"{here} is float ({decision.reason}), though the row {holding[0]} holds there"
        # a refusal is reported at the pattern's first operator
        refused = [check for check in checks if not check.holds and check.nodes[0] == decision.node]
        reasons = [reason for check in refused for _, reason in check.refusals]
        if reasons and not holding:
            yield f"{here} is float without the reason that its row gives ({reasons[0]}): {decision.reason}"


def compare_runtime(
    result: SampleResult,
    recipe: Recipe,
    tolerance: Tolerance | None,
    *,
    slack: float = 1.0,
    read_on: bool = False,
) -> str | None:
    """Runtime and q/dq form must agree within the tolerance, in and beyond the calibrated range.

    With ``read_on`` a float operator may have read an integer that is a step off.
    """
    for run, outputs in enumerate(result.runs):
        for number, output in enumerate(outputs):
            steps = MOST_STEPS * output.source_scale if read_on and recipe.kernel is Kernel.STATIC else 0.0
            difference = _difference(output, recipe, tolerance, slack, steps)
            if difference is not None:
                return f"output {number}{_WHERE[run]}: {difference}"
    return None


def _difference(
    output: OutputValues, recipe: Recipe, tolerance: Tolerance | None, slack: float, read_error: float
) -> str | None:
    got, want = output.runtime, output.qdq
    if got.shape != want.shape or got.dtype != want.dtype:
        return (
            f"the runtime gives {got.dtype} {list(got.shape)}, the q/dq form {want.dtype} {list(want.shape)}"
        )
    if not got.numel():
        return None
    if not got.is_floating_point():
        return None if torch.equal(got, want) else f"{int((got != want).sum())} of {got.numel()} differ"
    if bool(torch.isnan(got).any()) and not bool(torch.isnan(want).any()):
        return "the runtime gives NaN"
    # two kernels of half precision may round to neighbours
    steps, relative = MOST_STEPS, max(MOST_RELATIVE[recipe.kernel], 2 * torch.finfo(got.dtype).eps)
    if tolerance is not None:
        steps = steps if tolerance.lsb is None else tolerance.lsb + 0.001
        relative = relative if tolerance.relative is None else tolerance.relative
    gap = float((got.double() - want.double()).abs().nan_to_num().max())
    largest = float(want.double().abs().nan_to_num().max())
    if output.scale is None:
        allowed = relative * max(largest, 1e-30) * slack + read_error
        if gap <= allowed:
            return None
        return f"runtime and q/dq form differ by {gap:.3g} of {largest:.3g} ({relative:.0e} is allowed)"
    if gap <= (steps * slack) * output.scale + 1e-6 * largest:
        return None
    return f"runtime and q/dq form differ by {gap / output.scale:.4g} LSB ({steps * slack:.4g} is allowed)"


def compare_golden(result: SampleResult, tolerance: Tolerance | None) -> str | None:
    """The runtime's integers must be those of the golden form, exactly or within the stated LSB."""
    allowed = 0.0 if tolerance is None or tolerance.lsb is None else tolerance.lsb
    for run, outputs in enumerate(result.runs):
        for number, output in enumerate(outputs):
            if output.golden is None or output.scale is None or not output.runtime.numel():
                continue
            gap = ((output.runtime.double() - output.golden.double()) / output.scale).abs().round()
            largest = float(gap.max())
            if largest > allowed:
                hint = "; if its kernels round ties another way, state a tolerance" if largest == 1 else ""
                return (
                    f"output {number}{_WHERE[run]}: {int((gap > allowed).sum())} of {gap.numel()} integers "
                    f"differ from the golden form, by up to {largest:.0f} LSB ({allowed:g} is allowed){hint}"
                )
    return None


def follows_golden(result: SampleResult) -> bool:
    """Whether all results are quantized, and within a few LSB of the golden form's."""
    outputs = [output for run in result.runs for output in run]
    return all(
        output.golden is not None
        and output.scale is not None
        and float((output.runtime.double() - output.golden.double()).abs().max()) <= MOST_STEPS * output.scale
        for output in outputs
        if output.runtime.numel()
    )


def compare_model(result: SampleResult, recipe: Recipe) -> str | None:
    """The q/dq form must be near the model on calibration data: else its parameters are wrong."""
    least = LEAST_SQNR.get(_narrowest_bits(recipe), 20.0) if recipe.kernel is not Kernel.FLOAT else 80.0
    for number, output in enumerate(result.runs[0]):
        model, qdq = output.model, output.qdq
        if not model.is_floating_point() or not model.numel():
            continue
        if model.shape != qdq.shape:
            return f"output {number}: the q/dq form gives {list(qdq.shape)}, the model {list(model.shape)}"
        level = _measure_sqnr(model, qdq)
        if level is not None and level < least:
            return f"output {number}: the q/dq form is {level:.1f} dB from the model ({least:g} are needed)"
    return None


def _measure_sqnr(signal: torch.Tensor, other: torch.Tensor) -> float | None:
    """Signal to noise in dB, ``None`` if the signal is zero or there is no noise."""
    noise = float((signal.double() - other.double()).square().sum())
    power = float(signal.double().square().sum())
    return float(10 * torch.log10(torch.tensor(power / noise))) if noise > 0 and power > 0 else None


def _narrowest_bits(recipe: Recipe) -> int:
    """The bits of the narrowest spec of a recipe, 8 if it has none."""
    specs = [spec for spec in (recipe.activation, recipe.weight) if isinstance(spec, QSpec)]
    ranges = [spec.dtype.maximum - spec.dtype.minimum for spec in specs]
    return min((r.bit_length() for r in ranges), default=8)
