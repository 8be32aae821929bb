"""Judges a program of branches: was each row decided, claimed and compiled as it should, and is it right?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from delegate_graph import Call, listen
from kit import Branches, Case, Output, Proof, beyond, prove
from torch import nn

from quanthost.api import Kernel
from quanthost.values import Decision, Verdict
from quanthost_xnnpack_like.backend import backend
from quanthost_xnnpack_like.rows import TABLE

__all__ = [
    "KERNELS",
    "MOST_RELATIVE",
    "MOST_RELATIVE_DYNAMIC",
    "MOST_STEPS",
    "RECIPES",
    "compiled",
    "judge",
    "judged",
    "lowered",
    "rows_of",
]

RECIPES = {recipe.name: recipe for recipe in backend.info.recipes}
KERNELS = {name: recipe.kernel for name, recipe in RECIPES.items()}

# largest difference of a quantized result between runtime and q/dq form in eager torch, in steps of its scale
MOST_STEPS = 1.001
# the same of a float result, over the largest value
MOST_RELATIVE = 1e-4
# the same where ranges are made at run time: the delegate rounds zero points and ties in its own way, and
# takes a convolution's range from each image, so that inputs may be off a step of 255
MOST_RELATIVE_DYNAMIC = 1e-2
# steps that an operator makes of one step of what it reads
SLOPE = 2.0
# signal to quantization noise of the q/dq form on calibration data, in dB
LEAST_SQNR = {Kernel.STATIC: 20.0, Kernel.DYNAMIC: 15.0, Kernel.WEIGHT_ONLY: 30.0, Kernel.FLOAT: 100.0}
# levels that a result must have: a constant would prove nothing
LEAST_LEVELS = 3

# part of the operator before it, and the counter of a norm that trains
_NO_WORK = ("getitem", "aten.add_.Tensor")
_OPERANDS = {
    Kernel.STATIC: frozenset(("qint8", "qcint8", "qcint32", "qint32")),
    Kernel.FLOAT: frozenset(("fp32",)),
}


def rows_of(kernel: Kernel) -> list[str]:
    """The rows that have a kernel and are met without training, by what they compute alone."""
    elsewhere = ("conv_batch_norm", "relu_of_maximum", "hardtanh_of_maximum")
    met = (row for row in TABLE if not row.converts and not row.name.startswith(elsewhere))
    return [row.name for row in met if kernel in row.kernels]


def judged(
    cases: Sequence[Case], recipe: str, *, placement: str = "all", train: bool = False
) -> tuple[Proof, list[str]]:
    """Lower the cases as branches of one program, run it in and beyond the calibrated range, and judge it."""
    inputs = [tensor for case in cases for tensor in case.inputs]
    proof, calls = lowered(Branches(cases), inputs, recipe, placement=placement, train=train)
    return proof, judge(proof, cases, KERNELS[recipe], calls)


def lowered(
    model: nn.Module,
    inputs: Sequence[torch.Tensor],
    recipe: str,
    *,
    placement: str,
    train: bool = False,
    dynamic_shapes: Any = None,
) -> tuple[Proof, list[Call]]:
    """A program that has run in and beyond the calibrated range, and what the delegate was compiled to."""
    with listen() as partitions:
        proof = prove(
            model, inputs, backend=backend, recipe=recipe, placement=placement, train=train,
            others=[beyond(inputs)], dynamic_shapes=dynamic_shapes,
        )  # fmt: skip
    return proof, [call for partition in partitions for call in partition]


def judge(
    proof: Proof, cases: Sequence[Case], kernel: Kernel, calls: Sequence[Call], *, chained: bool = False
) -> list[str]:
    """What is wrong, each with the row it is about; empty where all is right.

    ``chained`` is set where the program has one input, which the first case reads, and the others read the
    first one's result.
    """
    edges = 1 + len(cases) if chained else sum(len(case.inputs) + _results(case) for case in cases)
    problems = []
    if all(TABLE.row(case.row).delegated for case in cases):
        problems.extend(compiled(proof, kernel, calls, edges))
    if kernel is Kernel.DYNAMIC and sum("qdint8" in call.types for call in calls) < 2 * len(cases):
        problems.append(f"not all ranges are made at run time: {[call.operator for call in calls]}")
    for number, case in enumerate(cases):
        problems.extend(f"{case.row}: {text}" for text in _placed(proof, number, case, kernel))
    numbers = [number for number, case in enumerate(cases) for _ in range(_results(case))]
    for run, outputs in enumerate(proof.runs):
        off = outputs[0].lsb if chained and outputs[0].scale is not None else 0.0
        for number, output in zip(numbers, outputs, strict=True):
            texts = _computed(output, cases[number], kernel, off, calibrated=run == 0)
            problems.extend(f"{cases[number].row} (run {run}): {text}" for text in texts)
    return problems


def _results(case: Case) -> int:
    """How many tensors a case makes; one where it is a step in a network and has no inputs of its own."""
    made = case.module(*case.inputs) if case.inputs else None
    return len(made) if isinstance(made, tuple) else 1


def _placed(proof: Proof, number: int, case: Case, kernel: Kernel) -> Iterator[str]:
    """Decisions name the row, and each operator lies in the delegate."""
    decisions = [
        d for d in proof.of_case(number) if d.verdict is not Verdict.FOLDED and d.operator not in _NO_WORK
    ]
    if kernel is not Kernel.FLOAT:
        named = {d.row for d in decisions}
        if not set(case.decided) <= named:
            yield f"decided as {named}, not {case.decided}: {[d.reason for d in decisions]}"
        yield from (f"{d.node} is float: {d.reason}" for d in decisions if _stays_float(d))
    if not TABLE.row(case.row).delegated:
        return
    yield from (f"{d.node}: {d.placement}" for d in decisions if d.placement != "taken by the delegate")
    nodes = {d.node for d in decisions}
    claimed = {t.row for t in proof.taken if t.kernel is kernel and t.origins and t.origins <= nodes}
    if not set(case.taken) <= claimed:
        yield f"claimed as {sorted(claimed)}, not {case.taken}"


def _stays_float(decision: Decision) -> bool:
    return decision.verdict is not Verdict.QUANTIZED


def compiled(proof: Proof, kernel: Kernel, calls: Sequence[Call], edges: int) -> Iterator[str]:
    """Nothing is left outside, and the delegate's operators have the kernel's datatypes.

    ``edges`` is the number of the program's inputs and outputs, which are converted where they are float.
    """
    if proof.program.record.outside:
        yield f"outside of the delegate: {proof.program.record.outside}"
    conversions = [call for call in calls if call.operator == "Convert"]
    if kernel is Kernel.STATIC and len(conversions) > edges:
        yield f"{len(conversions)} conversions for {edges} inputs and outputs"
    if kernel in _OPERANDS:
        wrong = [c for c in calls if c.operator != "Convert" and not c.types <= _OPERANDS[kernel]]
        yield from (f"the delegate computes {call.operator} with {dict(call.datatypes)}" for call in wrong)


def _computed(output: Output, case: Case, kernel: Kernel, off: float, *, calibrated: bool) -> Iterator[str]:
    """The runtime's result is that of the q/dq form, and the q/dq form is near the model.

    ``off`` is by how many steps the tensor that the case reads may differ.
    """
    if kernel is Kernel.STATIC:
        if output.scale is None:
            yield "the result is not quantized"
        elif output.lsb > MOST_STEPS + SLOPE * off:
            yield f"{output.lsb:.1f} steps off the q/dq form"
    else:
        most = MOST_RELATIVE_DYNAMIC if kernel is Kernel.DYNAMIC else MOST_RELATIVE
        if not output.relative <= most:
            yield f"{output.relative:.1e} of the largest value off the q/dq form"
    if not case.varies:
        return
    if output.levels < min(LEAST_LEVELS, output.qdq.numel()):
        yield f"the result has {output.levels} levels"
    if calibrated and not output.sqnr >= LEAST_SQNR[kernel]:
        yield f"the q/dq form is {output.sqnr:.0f} dB from the model"
