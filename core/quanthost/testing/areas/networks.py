"""Cases of the area ``networks``: small networks lower and run, and are near the float model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from quanthost.testing.cases.samples import Sample
from quanthost.testing.cases.small_networks import NETWORKS
from quanthost.testing.proving.case import Case, Judgment, fail_if
from quanthost.testing.proving.flow import SampleResult
from quanthost.testing.proving.judging import drop_folded
from quanthost.testing.proving.session import Session
from quanthost.testing.proving.splitting import StageFailure
from quanthost.values import Kernel, Recipe, Verdict

__all__ = ["derive_cases"]

# signal to noise on calibration data, in dB: q/dq form against model, runtime against q/dq form
_LEAST_MODEL = {Kernel.FLOAT: 80.0, Kernel.WEIGHT_ONLY: 15.0, Kernel.STATIC: 10.0, Kernel.DYNAMIC: 10.0}
_LEAST_QDQ = {Kernel.FLOAT: 80.0, Kernel.WEIGHT_ONLY: 80.0, Kernel.STATIC: 25.0, Kernel.DYNAMIC: 20.0}


def derive_cases(session: Session) -> Iterator[Case]:
    for name, build in NETWORKS.items():
        if not session.selection.includes(name):
            continue
        module, inputs = build()
        sample = Sample(name=name, module=module, inputs=inputs)
        for recipe in session.selection.recipes:
            yield Case(
                id=f"networks/{name}/{recipe.name}", subject=name,
                must="it lowers and runs, each operator has a reason, and the result is near the model's",
                judge=partial(_judge, session, recipe, sample),
            )  # fmt: skip


def _judge(session: Session, recipe: Recipe, sample: Sample) -> Judgment:
    result = session.runs.run_alone(recipe.name, sample)
    if isinstance(result, StageFailure):
        return fail_if(result, recipe, sample)
    session.figures.append((f"{sample.name}, {recipe.name}", _describe_shares(result)))
    unexplained = [d.node for d in result.decisions if not d.reason.strip() or not d.placement]
    if unexplained:
        return fail_if(f"no reason for {', '.join(unexplained)}", recipe, sample)
    return fail_if(_compare(result, recipe), recipe, sample)


def _describe_shares(result: SampleResult) -> str:
    decisions = drop_folded(result.decisions)
    quantized = sum(d.verdict is Verdict.QUANTIZED for d in decisions)
    delegated = sum(bool(d.delegated) for d in decisions)
    return f"{quantized} of {len(decisions)} operators quantized, {delegated} delegated"


def _compare(result: SampleResult, recipe: Recipe) -> str | None:
    for number, output in enumerate(result.runs[0]):
        for what, other, reference, least in (
            ("the q/dq form from the model", output.qdq, output.model, _LEAST_MODEL[recipe.kernel]),
            ("the runtime from the q/dq form", output.runtime, output.qdq, _LEAST_QDQ[recipe.kernel]),
        ):
            level = _decibels(reference, other)
            if not level >= least:
                return f"output {number}: {what} is {level:.1f} dB away ({least:g} are needed)"
    return None


def _decibels(reference: torch.Tensor, other: torch.Tensor) -> float:
    noise = (reference.double() - other.double()).square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(reference.double().square().sum() / noise))
