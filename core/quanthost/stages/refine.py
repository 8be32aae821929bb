"""Refinement at convert: which estimator serves the model's outputs best, and corrected biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from quanthost.graph.operators import argument, operator_name
from quanthost.graph.rewrite import origin
from quanthost.graph.view import constant
from quanthost.graph.walk import walk
from quanthost.toolchain import pt2e
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import Estimator, RangeEstimator, Refinement, Trial

__all__ = ["refine"]

Batches = Sequence[Sequence[Any]]
Outputs = Sequence[Sequence[Any]]
Means = dict[str, torch.Tensor]
# operators with a bias, and the axis of their output channels, with or without a batch dimension
_BIASED = (
    *((f"aten.{name}", -2) for name in ("conv1d", "conv_transpose1d")),
    *((f"aten.{name}", -3) for name in ("conv2d", "conv_transpose2d")),
    ("aten.linear", -1),
)


# what AUTO stands for; a percentile clips what calibration saw too seldom, and may lose unseen data
_ESTIMATORS = (RangeEstimator(kind=Estimator.MINMAX), RangeEstimator(kind=Estimator.MSE))
# a correction that brings less than this on unseen data may as well be chance
_WORTH_DB = 1.0


def refine(observed: fx.GraphModule, sample: Batches) -> tuple[fx.GraphModule, Refinement | None]:
    """Convert with each estimator that ``AUTO`` stands for, keep the best, and correct its biases.

    ``observed`` is a calibrated graph that the caller owns, ``sample`` flat inputs that calibration saw.
    Correcting a bias adds the mean difference, channel by channel, between the float and the quantized
    result (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    section 4.2, with means from data). It is kept only where it brings a decibel over the best plain
    candidate, and where means of one half of the sample bring the outputs of the other half a decibel
    nearer to the float model's. Without sample or ``AUTO`` nothing is tried.
    """
    automatic = [m for m in observed.modules() if isinstance(m, RangeObserver) and _is_auto(m)]
    if not sample or not automatic:
        return pt2e.convert(observed), None
    with torch.no_grad():
        means, reference = _means(observed, sample)
        plain = [_convert_with(kind, observed, automatic, sample, reference) for kind in _ESTIMATORS]
        fixed = [_corrected(*candidate, sample, means, reference) for candidate in plain]
        best, finalist = (max(tried, key=lambda item: item[0].sqnr_db) for tried in (plain, fixed))
        uncorrected = plain[fixed.index(finalist)][1]
        keep = finalist[0].sqnr_db - best[0].sqnr_db >= _WORTH_DB and _helps_unseen(
            observed, uncorrected, sample, reference
        )
    trials = tuple(trial for trial, _ in (*plain, *fixed))
    taken = finalist if keep else best
    return taken[1], Refinement(trials=trials, choice=taken[0].name, bias_corrected=keep)


def _convert_with(
    estimator: RangeEstimator,
    observed: fx.GraphModule,
    automatic: Sequence[RangeObserver],
    sample: Batches,
    reference: Outputs,
) -> tuple[Trial, fx.GraphModule]:
    for observer in automatic:
        observer.chosen = estimator
    module = pt2e.convert(pt2e.deep_copy(observed))
    return _trial(estimator.kind.value, _outputs(module, sample), reference), module


def _corrected(
    trial: Trial, module: fx.GraphModule, sample: Batches, means: Means, reference: Outputs
) -> tuple[Trial, fx.GraphModule]:
    made, outputs = _correct(module, sample, means)
    return _trial(f"{trial.name}, biases corrected", outputs, reference), made


def _trial(name: str, outputs: Outputs, reference: Outputs) -> Trial:
    return Trial(name=name, sqnr_db=round(_quality(outputs, reference), 2))


def _outputs(module: fx.GraphModule, batches: Batches) -> Outputs:
    return walk(module, batches, lambda _, results: results)


def _helps_unseen(
    observed: fx.GraphModule, plain: fx.GraphModule, sample: Batches, reference: Outputs
) -> bool:
    """Whether biases corrected by one half of the sample bring the other half's outputs nearer."""
    if len(sample) < 2:
        return False
    corrected, _ = _correct(plain, sample[::2], _means(observed, sample[::2])[0])
    before, after = (_quality(_outputs(m, sample[1::2]), reference[1::2]) for m in (plain, corrected))
    return after - before >= _WORTH_DB


def _is_auto(observer: RangeObserver) -> bool:
    static = not observer.is_dynamic and not observer.once
    return static and observer.spec.estimator.kind is Estimator.AUTO


def _quality(outputs: Outputs, reference: Outputs) -> float:
    """Mean over the outputs of 10·log10(Σ reference² / Σ (reference - output)²) in dB, at most 200."""
    signal: dict[int, float] = {}
    noise: dict[int, float] = {}
    for got, wanted in zip(outputs, reference):
        for number, (made, true) in enumerate(zip(got, wanted)):
            if isinstance(true, torch.Tensor) and true.is_floating_point():
                exact = true.double()
                signal[number] = signal.get(number, 0.0) + float(exact.square().sum())
                noise[number] = noise.get(number, 0.0) + float((exact - made.double()).square().sum())
    levels = [_decibel(signal[number], noise[number]) for number in signal]
    return sum(levels) / len(levels) if levels else 0.0


def _decibel(signal: float, noise: float) -> float:
    tiny = 1e-20 * signal + 1e-300
    return float(10.0 * torch.log10(torch.tensor((signal + 1e-300) / (noise + tiny), dtype=torch.float64)))


def _channel_axis(node: fx.Node) -> int | None:
    name = operator_name(node)
    return next((axis for prefix, axis in _BIASED if name.startswith(prefix)), None)


def _channel_mean(results: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Mean over all batches and positions, float64 ``[channels]``."""
    flat = [r.movedim(axis, 0).reshape(r.shape[axis], -1) for r in results]
    total = torch.stack([r.double().sum(1) for r in flat]).sum(0)
    return total / sum(r.shape[1] for r in flat)


def _means(observed: fx.GraphModule, batches: Batches) -> tuple[Means, Outputs]:
    """Channel means of the float results, by the captured node's name, and the float outputs."""
    means: Means = {}

    def visit(node: fx.Node, results: list[Any]) -> list[Any]:
        axis, name = _channel_axis(node), origin(node)
        if axis is not None and name is not None:
            means[name] = _channel_mean(results, axis)
        return results

    return means, walk(observed, batches, visit)


def _correct(module: fx.GraphModule, batches: Batches, means: Means) -> tuple[fx.GraphModule, Outputs]:
    """A copy whose biases make each channel's mean that of the float model, in order of execution.

    Its outputs for the batches are made on the way: each correction is added to what the layer gives.
    """
    made = pt2e.deep_copy(module)
    offsets: dict[fx.Node, torch.Tensor] = {}

    def visit(node: fx.Node, results: list[Any]) -> list[Any]:
        axis, name = _channel_axis(node), origin(node)
        bias = argument(node, "bias")
        quantized_bias = isinstance(bias, fx.Node) and constant(made, bias) is None
        # with a float weight nothing was quantized here, and an integer bias has no room for a correction
        if axis is None or name not in means or quantized_bias or constant(made, node.args[1]) is not None:
            return results
        offset = (means[name] - _channel_mean(results, axis)).to(results[0].dtype)
        offsets[node] = offset
        shape = [1] * results[0].dim()
        shape[axis] = -1
        return [result + offset.reshape(shape) for result in results]

    outputs = walk(made, batches, visit)
    for node, offset in offsets.items():
        _add_to_bias(made, node, offset)
    made.recompile()
    return made, outputs


def _add_to_bias(module: fx.GraphModule, node: fx.Node, offset: torch.Tensor) -> None:
    held = constant(module, argument(node, "bias"))
    name = f"_{node.name}_corrected_bias"
    module.register_buffer(name, offset if held is None else held.detach() + offset)
    with module.graph.inserting_before(node):
        bias = module.graph.get_attr(name)
    args = [*node.args, *([None] * (3 - len(node.args)))]
    args[2] = bias
    node.args = tuple(args)
