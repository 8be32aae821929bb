"""Captures samples as branches of one program, and keeps these programs for all recipes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.export import Dim

from quanthost.graph.digest import graph_text
from quanthost.stages.capturing.capture import CapturedModel, capture
from quanthost.testing.cases.samples import Branches, Regime, Sample
from quanthost.values import Decision

__all__ = ["Programs", "build_inputs", "capture_samples", "describe_sample", "select_branch"]


class Programs:
    """The captured programs of a run; each is captured once for all recipes."""

    def __init__(self) -> None:
        self._programs: dict[tuple[tuple[Sample, ...], Regime], CapturedModel | Exception] = {}

    def capture(self, samples: Sequence[Sample], regime: Regime = Regime.PLAIN) -> CapturedModel:
        """The samples as one program; a failure to capture them is raised again at each call."""
        key = (tuple(samples), regime)
        if key not in self._programs:
            try:
                self._programs[key] = capture_samples(samples, regime)
            except Exception as error:
                self._programs[key] = error
        program = self._programs[key]
        if isinstance(program, Exception):
            raise program
        return program


def capture_samples(samples: Sequence[Sample], regime: Regime = Regime.PLAIN) -> CapturedModel:
    """The samples as branches of one program."""
    shapes = None
    if any(sample.is_dynamic for sample in samples):
        dims_of_inputs = [dims for s in samples for dims in (s.dynamic or ((),) * len(s.inputs))]
        shapes = (tuple(dict.fromkeys(dims, Dim.DYNAMIC) for dims in dims_of_inputs),)
    with torch.no_grad():
        return capture(Branches(samples).eval(), build_inputs(samples, regime), dynamic_shapes=shapes)


def build_inputs(samples: Sequence[Sample], regime: Regime) -> tuple[torch.Tensor, ...]:
    """The inputs of a program of these samples; a sample without inputs in the regime has its plain ones."""
    return tuple(x for sample in samples for x in (sample.scale_to(regime) or sample.inputs))


def select_branch(decisions: Sequence[Decision], number: int) -> tuple[Decision, ...]:
    """The decisions on the operators of one sample of a program."""
    path = f"cases.{number}."
    return tuple(d for d in decisions if d.module is not None and f"{d.module}.".startswith(path))


def describe_sample(sample: Sample) -> str:
    """The sample's captured graph, its parameters and inputs, line by line."""
    inputs = ", ".join(f"{x.dtype} {list(x.shape)}".removeprefix("torch.") for x in sample.inputs)
    parameters = ", ".join(f"{name} {list(p.shape)}" for name, p in sample.module.named_parameters())
    try:
        graph = graph_text(capture_samples([sample]).exported.graph_module)
    except Exception as error:
        graph = f"(cannot be captured: {error})"
    return f"inputs: {inputs}\n" + (f"parameters: {parameters}\n" if parameters else "") + graph
