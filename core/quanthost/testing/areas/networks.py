"""Cases of the area ``networks``: small networks run, near the float model, with the share that is taken."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from quanthost.testing.cases.samples import Sample
from quanthost.testing.cases.small_networks import NETWORKS
from quanthost.testing.proving.flow import Failed, Proved
from quanthost.testing.proving.judging import computing
from quanthost.testing.proving.session import Check, Fault, Session, Verdict
from quanthost.values import Kernel, Recipe
from quanthost.values import Verdict as Decided

__all__ = ["checks"]

# signal to noise on calibration data, in dB: q/dq form against model, runtime against q/dq form
_LEAST_MODEL = {Kernel.FLOAT: 80.0, Kernel.WEIGHT_ONLY: 15.0, Kernel.STATIC: 10.0, Kernel.DYNAMIC: 10.0}
_LEAST_QDQ = {Kernel.FLOAT: 80.0, Kernel.WEIGHT_ONLY: 80.0, Kernel.STATIC: 25.0, Kernel.DYNAMIC: 20.0}


def checks(session: Session) -> Iterator[Check]:
    for name, make in NETWORKS.items():
        if not session.wants(name):
            continue
        module, inputs = make()
        sample = Sample(name=name, module=module, inputs=inputs)
        for recipe in session.recipes:
            yield Check(
                id=f"networks/{name}/{recipe.name}", subject=name,
                must="it lowers and runs, each operator has a reason, and the result is near the model's",
                judge=partial(_judged, session, recipe, sample),
            )  # fmt: skip


def _judged(session: Session, recipe: Recipe, sample: Sample) -> Verdict:
    (proved,) = session.alone(recipe.name, sample)
    if isinstance(proved, Failed):
        return Fault(message=str(proved), sample=sample, recipe=recipe.name)
    session.figures.append((f"{sample.name}, {recipe.name}", _shares(proved)))
    text = _far(proved, recipe)
    unsaid = [d.node for d in proved.decisions if not d.reason.strip() or not d.placement]
    if unsaid:
        text = f"no reason for {', '.join(unsaid)}"
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)


def _shares(proved: Proved) -> str:
    decisions = computing(proved.decisions)
    quantized = sum(d.verdict is Decided.QUANTIZED for d in decisions)
    delegated = sum(bool(d.delegated) for d in decisions)
    return f"{quantized} of {len(decisions)} operators quantized, {delegated} delegated"


def _far(proved: Proved, recipe: Recipe) -> str | None:
    for number, output in enumerate(proved.runs[0]):
        for what, other, wanted, least in (
            ("the q/dq form from the model", output.qdq, output.model, _LEAST_MODEL[recipe.kernel]),
            ("the runtime from the q/dq form", output.runtime, output.qdq, _LEAST_QDQ[recipe.kernel]),
        ):
            level = _decibels(wanted, other)
            if not level >= least:
                return f"output {number}: {what} is {level:.1f} dB away ({least:g} are needed)"
    return None


def _decibels(wanted: torch.Tensor, got: torch.Tensor) -> float:
    noise = (wanted.double() - got.double()).square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(wanted.double().square().sum() / noise))
