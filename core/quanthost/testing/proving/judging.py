"""What is wrong with a sample that was decided, lowered or run; ``None`` where all is right."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quanthost.graph.table import SupportTable
from quanthost.testing.expectations import Tolerance
from quanthost.testing.proving.flow import Output, Proved
from quanthost.testing.proving.row_checks import Seen
from quanthost.values import Cause, Decision, Kernel, QSpec, Recipe, Verdict

__all__ = [
    "CHAIN_SLACK",
    "computing",
    "decided",
    "differs",
    "far_from_golden",
    "far_from_model",
    "is_in_parts",
    "left_float",
    "narrowest_bits",
]

# largest difference between runtime and q/dq form, in steps of the result's scale: rounding of ties
MOST_STEPS = 1.001
# the same of a float result, over the largest value; where ranges are made at run time, a zero point may be
# rounded another way, so that inputs are off a step of 255
MOST_RELATIVE = {
    Kernel.STATIC: 1e-4, Kernel.FLOAT: 1e-4, Kernel.WEIGHT_ONLY: 1e-4, Kernel.DYNAMIC: 1e-2,
}  # fmt: skip
# signal to quantization noise of the q/dq form on calibration data, in dB, by the bits of the narrowest spec
LEAST_SQNR = {4: 8.0, 8: 20.0, 16: 40.0}
# two operators, each a step off: the second may make more of the first one's
CHAIN_SLACK = 3.0
_NO_WORK = ("getitem",)
# what was run, in order
_WHERE = ("", " beyond the calibrated range", " at a smaller size than it was captured with")


def computing(decisions: tuple[Decision, ...]) -> list[Decision]:
    """Decisions on what is left in the graph."""
    return [d for d in decisions if d.verdict is not Verdict.FOLDED and d.operator not in _NO_WORK]


def left_float(decisions: tuple[Decision, ...]) -> str | None:
    found = [f"{d.node} ({d.operator}) is float: {d.reason}" for d in computing(decisions)
             if d.verdict is not Verdict.QUANTIZED]  # fmt: skip
    return "; ".join(found) or None


def is_in_parts(proved: Proved) -> bool:
    """Whether a row quantizes a part of it: a step that its input is off, the row may make more of."""
    rows = {d.row if d.verdict is Verdict.QUANTIZED else None for d in computing(proved.decisions)}
    return len(rows) > 1


def left_outside(proved: Proved, recipe: Recipe, table: SupportTable | None) -> str | None:
    """What a row quantizes for the delegate must lie in it, in integers: float there gains nothing."""
    rows = {row.name for row in table or () if row.delegated}
    for decision in computing(proved.decisions):
        if decision.verdict is not Verdict.QUANTIZED or decision.row not in rows:
            continue
        here = f"{decision.node} ({decision.operator}) is quantized by {decision.row}, and"
        if decision.delegated is False and decision.in_program is not False:
            return f"{here} is not in the delegate: {decision.placement}"
        if recipe.kernel is Kernel.STATIC and decision.node in proved.in_float:
            return f"{here} only a float kernel takes what became of it"
    return None


def decided(seen: Seen, recipe: Recipe) -> str | None:
    """Whether the decisions are what the table says at each node, each with its reason."""
    if recipe.kernel is Kernel.FLOAT:
        return None
    return next(iter(_disagreements(seen)), None)


def _disagreements(seen: Seen) -> Iterator[str]:
    for decision in computing(seen.decisions):
        met = [each for each in seen.at(decision.node) if each.whole]
        here = f"{decision.node} ({decision.operator})"
        if decision.verdict is Verdict.QUANTIZED:
            named = [each for each in met if each.row == decision.row]
            if named and not any(each.holds for each in named):
                reason = named[0].refusals[0][1]
                yield f"{here} is quantized by the row {decision.row}, which refuses it: {reason}"
            if met and not named:
                yield f"{here} is quantized by {decision.row}, whose pattern is not there"
            continue
        if not decision.reason.strip():
            yield f"{here} is float without a reason"
        holding = [each.row for each in met if each.holds]
        if holding and decision.cause is Cause.NO_ROW:
            yield f"{here} is float ({decision.reason}), though the row {holding[0]} holds there"
        # a miss is told at the pattern's first operator
        refused = [each for each in met if not each.holds and each.nodes[0] == decision.node]
        refusing = [reason for each in refused for _, reason in each.refusals]
        if refusing and not holding and decision.cause is Cause.NO_ROW:
            yield f"{here} is float without the reason that its row gives ({refusing[0]}): {decision.reason}"


def differs(
    proved: Proved, recipe: Recipe, tolerance: Tolerance | None, *, slack: float = 1.0, read_on: bool = False
) -> str | None:
    """Whether runtime and q/dq form differ by more than is stated, in and beyond the calibrated range.

    With ``read_on`` a float operator may have got an integer that is a step off.
    """
    for run, outputs in enumerate(proved.runs):
        for number, output in enumerate(outputs):
            steps = MOST_STEPS * output.behind if read_on and recipe.kernel is Kernel.STATIC else 0.0
            found = _difference(output, recipe, tolerance, slack, steps)
            if found is not None:
                where = _WHERE[run]
                return f"output {number}{where}: {found}"
    return None


def _difference(
    output: Output, recipe: Recipe, tolerance: Tolerance | None, slack: float, behind: float
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
        allowed = relative * max(largest, 1e-30) * slack + behind
        if gap <= allowed:
            return None
        return f"runtime and q/dq form differ by {gap:.3g} of {largest:.3g} ({relative:.0e} is allowed)"
    if gap <= (steps * slack) * output.scale + 1e-6 * largest:
        return None
    return f"runtime and q/dq form differ by {gap / output.scale:.4g} LSB ({steps * slack:.4g} is allowed)"


def far_from_golden(proved: Proved, tolerance: Tolerance | None) -> str | None:
    """Whether the runtime's integers are those of the golden form, bit by bit or to the stated LSB."""
    allowed = 0.0 if tolerance is None or tolerance.lsb is None else tolerance.lsb
    for run, outputs in enumerate(proved.runs):
        for number, output in enumerate(outputs):
            if output.golden is None or output.scale is None or not output.runtime.numel():
                continue
            gap = ((output.runtime.double() - output.golden.double()) / output.scale).abs().round()
            if float(gap.max()) > allowed:
                share = int((gap > allowed).sum())
                where = _WHERE[run]
                most = float(gap.max())
                hint = "; where its kernels round ties another way, state a tolerance" if most == 1 else ""
                return (
                    f"output {number}{where}: {share} of {gap.numel()} integers differ from the golden form, "
                    f"by up to {most:.0f} LSB ({allowed:g} is allowed){hint}"
                )
    return None


def far_from_model(proved: Proved, recipe: Recipe, bits: int) -> str | None:
    """Whether the q/dq form is so far from the model that its parameters must be wrong."""
    least = LEAST_SQNR.get(bits, 20.0) if recipe.kernel is not Kernel.FLOAT else 80.0
    for number, output in enumerate(proved.runs[0]):
        if not output.model.is_floating_point() or not output.model.numel():
            continue
        model, qdq = output.model.double(), output.qdq.double()
        if model.shape != qdq.shape:
            return f"output {number}: the q/dq form gives {list(qdq.shape)}, the model {list(model.shape)}"
        noise = float((model - qdq).square().sum())
        signal = float(model.square().sum())
        if noise <= 0 or signal <= 0:
            continue
        level = float(10 * torch.log10(torch.tensor(signal / noise)))
        if level < least:
            return f"output {number}: the q/dq form is {level:.1f} dB from the model ({least:g} are needed)"
    return None


def narrowest_bits(recipe: Recipe) -> int:
    """The bits of the narrowest spec of a recipe, 8 where it has none."""
    specs = [spec for spec in (recipe.activation, recipe.weight) if isinstance(spec, QSpec)]
    ranges = [spec.dtype.maximum - spec.dtype.minimum for spec in specs]
    return min((r.bit_length() for r in ranges), default=8)
