"""Runs a program beside its model, q/dq form and golden integer form, output by output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import fx

from quanthost.graph.qdq import qdq_parameters
from quanthost.graph.view import is_dequantize
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.records import ConvertedModel
from quanthost.testing.cases.samples import Branches, Regime, Sample
from quanthost.testing.proving.programs import build_inputs

__all__ = ["OutputValues", "build_run_inputs", "count_outputs", "find_passed_inputs", "run_program"]

# beyond what calibration saw: an integer kernel must saturate as the q/dq form does
BEYOND = 1.25


@attrs.frozen(kw_only=True)
class OutputValues:
    """One output of one run: of the model, the q/dq form in eager torch, the runtime, the integer form.

    ``scale`` is that of a quantized result. It is ``None`` for a float result; ``source_scale`` then is the
    largest scale of the quantized tensors that one float operator computes it from, 0 if there are none.
    """

    model: torch.Tensor
    qdq: torch.Tensor
    runtime: torch.Tensor
    golden: torch.Tensor | None
    scale: float | None
    source_scale: float = 0.0


def run_program(
    samples: Sequence[Sample],
    converted: ConvertedModel,
    golden: ConvertedModel | None,
    program: LoweredProgram,
    inputs: Sequence[torch.Tensor],
) -> tuple[OutputValues, ...]:
    """Run all forms of a program of these samples on the same inputs."""
    module = converted.module
    with torch.no_grad():
        results = [Branches(samples).eval()(*inputs), module(*inputs), program.run(*inputs)]
        if golden is not None:
            results.append(golden.module(*inputs))
    flat = [list(each) if isinstance(each, (tuple, list)) else [each] for each in results]
    golden_outputs = flat[3] if golden is not None else [None] * len(flat[0])
    return tuple(
        OutputValues(
            model=m, qdq=q, runtime=r, golden=g, scale=_scale(leaf), source_scale=_source_scale(leaf)
        )
        for m, q, r, g, leaf in zip(flat[0], flat[1], flat[2], golden_outputs, _leaves(module), strict=True)
    )


def build_run_inputs(samples: Sequence[Sample], regime: Regime) -> list[tuple[torch.Tensor, ...]]:
    """The inputs of each run: as calibrated, of larger range, and shorter if a dimension may vary."""
    inputs = build_inputs(samples, regime)
    # operands that were large at different places are large together
    beyond = build_inputs(samples, Regime.HUGE) if regime is Regime.APART else inputs
    runs = [inputs, tuple(x * BEYOND if x.is_floating_point() else x for x in beyond)]
    if any(sample.is_dynamic for sample in samples):
        remaining = iter(inputs)
        own = [[next(remaining) for _ in sample.inputs] for sample in samples]
        runs.append(tuple(x for sample, tensors in zip(samples, own) for x in sample.shorten(tensors)))
    return runs


def count_outputs(sample: Sample) -> int:
    with torch.no_grad():
        result = sample.module(*sample.inputs)
    return len(result) if isinstance(result, tuple) else 1


def find_passed_inputs(converted: ConvertedModel) -> list[bool]:
    """For each output whether it is an input of the program."""
    return [isinstance(leaf, fx.Node) and leaf.op == "placeholder" for leaf in _leaves(converted.module)]


def _leaves(module: fx.GraphModule) -> Sequence[Any]:
    leaves = module.graph.output_node().args[0]
    return leaves if isinstance(leaves, (tuple, list)) else [leaves]


def _scale(node: Any) -> float | None:
    """The scale of the dequantize that makes an output, ``None`` if another operator makes it."""
    parameters = qdq_parameters(node) if is_dequantize(node) else None
    return parameters.scale if parameters is not None and parameters.are_numbers else None


def _source_scale(node: Any) -> float:
    sources = node.all_input_nodes if isinstance(node, fx.Node) and _scale(node) is None else ()
    return max((scale for source in sources if (scale := _scale(source)) is not None), default=0.0)
