"""Refinement at convert: which estimator serves the model's outputs best, and corrected biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import fx

from quanthost.graph.operators import argument, operator_name
from quanthost.graph.rewrite import origin
from quanthost.graph.view import constant
from quanthost.graph.walk import walk
from quanthost.toolchain import pt2e
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import Estimator, RangeEstimator

__all__ = ["Refinement", "Trial", "refine"]

Batches = Sequence[Sequence[Any]]
# operators with a bias, and the axis of their output channels
_BIASED = (
    *((f"aten.{name}", 1) for name in ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")),
    ("aten.linear", -1),
)


# what AUTO stands for, and how many of them are tried with corrected biases as well
_ESTIMATORS = (
    RangeEstimator(kind=Estimator.MINMAX),
    RangeEstimator(kind=Estimator.MSE),
    RangeEstimator(kind=Estimator.PERCENTILE, percentile=99.99),
)
_FINALISTS = 3


@attrs.frozen(kw_only=True)
class Trial:
    """A candidate and the SQNR of the model's outputs with it, in dB, on the kept calibration data."""

    name: str
    sqnr_db: float


@attrs.frozen(kw_only=True)
class Refinement:
    """What was tried at convert, and what was taken."""

    trials: tuple[Trial, ...]
    estimator: str
    bias_corrected: bool


def refine(observed: fx.GraphModule, sample: Batches) -> tuple[fx.GraphModule, Refinement | None]:
    """Convert with each estimator that ``AUTO`` stands for, keep the best, and correct its biases.

    ``observed`` is a calibrated graph that the caller owns, ``sample`` flat inputs that calibration saw.
    Correcting a bias adds the mean difference, channel by channel, between the float and the quantized
    result (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    section 4.2, with means from data). It is kept only where means of one half of the sample bring the
    outputs of the other half nearer to the float model's. Without sample or ``AUTO`` nothing is tried.
    """
    automatic = [m for m in observed.modules() if isinstance(m, RangeObserver) and _is_auto(m)]
    if not sample or not automatic:
        return pt2e.convert(observed), None
    with torch.no_grad():
        reference = walk(observed, sample, lambda _, results: results)
        means = _means(observed, sample)
        trials: list[Trial] = []

        def judge(name: str, module: fx.GraphModule) -> float:
            quality = _quality(module, sample, reference)
            trials.append(Trial(name=name, sqnr_db=round(quality, 2)))
            return quality

        made = [_convert_with(estimator, observed, automatic) for estimator in _ESTIMATORS]
        ranked = sorted(((judge(name, module), name, module) for name, module in made), key=_first)[::-1]
        corrected = [(name, plain, _correct(plain, sample, means)) for _, name, plain in ranked[:_FINALISTS]]
        best = max(corrected, key=lambda item: judge(f"{item[0]}, biases corrected", item[2]))
        keep = len(sample) > 1 and _helps_unseen(observed, best[1], sample, reference)
    if not keep:
        best = (ranked[0][1], ranked[0][2], ranked[0][2])
    return best[2], Refinement(trials=tuple(trials), estimator=best[0], bias_corrected=keep)


def _first(item: tuple[float, str, fx.GraphModule]) -> float:
    return item[0]


def _convert_with(
    estimator: RangeEstimator, observed: fx.GraphModule, automatic: Sequence[RangeObserver]
) -> tuple[str, fx.GraphModule]:
    for observer in automatic:
        observer.chosen = estimator
    share = f" {estimator.percentile}" if estimator.percentile is not None else ""
    return f"{estimator.kind.value}{share}", pt2e.convert(pt2e.deep_copy(observed))


def _helps_unseen(
    observed: fx.GraphModule, plain: fx.GraphModule, sample: Batches, reference: Sequence[Sequence[Any]]
) -> bool:
    """Whether biases corrected by one half of the sample bring the other half's outputs nearer."""
    corrected = _correct(plain, sample[::2], _means(observed, sample[::2]))
    before, after = (_quality(m, sample[1::2], reference[1::2]) for m in (plain, corrected))
    return after > before


def _is_auto(observer: RangeObserver) -> bool:
    static = not observer.is_dynamic and not observer.once
    return static and observer.spec.estimator.kind is Estimator.AUTO


def _quality(module: fx.GraphModule, batches: Batches, reference: Sequence[Sequence[Any]]) -> float:
    """Mean over the outputs of 10·log10(Σ reference² / Σ (reference - output)²) in dB, at most 200."""
    outputs = walk(module, batches, lambda _, results: results)
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
    flat = [r.movedim(axis, 0).flatten(1) for r in results]
    total = torch.stack([r.double().sum(1) for r in flat]).sum(0)
    return total / sum(r.shape[1] for r in flat)


def _means(observed: fx.GraphModule, batches: Batches) -> dict[str, torch.Tensor]:
    """Channel means of the float results, by the captured node's name."""
    means: dict[str, torch.Tensor] = {}

    def visit(node: fx.Node, results: list[Any]) -> list[Any]:
        axis, name = _channel_axis(node), origin(node)
        if axis is not None and name is not None:
            means[name] = _channel_mean(results, axis)
        return results

    walk(observed, batches, visit)
    return means


def _correct(module: fx.GraphModule, batches: Batches, means: dict[str, torch.Tensor]) -> fx.GraphModule:
    """A copy whose biases make each channel's mean that of the float model, in order of execution."""
    made = pt2e.deep_copy(module)
    offsets: dict[fx.Node, torch.Tensor] = {}

    def visit(node: fx.Node, results: list[Any]) -> list[Any]:
        axis, name = _channel_axis(node), origin(node)
        if axis is None or name not in means or constant(made, node.args[1]) is not None:
            return results  # a float weight: nothing was quantized here
        offset = (means[name] - _channel_mean(results, axis)).to(results[0].dtype)
        offsets[node] = offset
        shape = [1] * results[0].dim()
        shape[axis] = -1
        return [result + offset.reshape(shape) for result in results]

    walk(made, batches, visit)
    for node, offset in offsets.items():
        _add_to_bias(made, node, offset)
    made.recompile()
    return made


def _add_to_bias(module: fx.GraphModule, node: fx.Node, offset: torch.Tensor) -> None:
    held = constant(module, argument(node, "bias"))
    name = f"_{node.name}_corrected_bias"
    module.register_buffer(name, offset if held is None else held.detach() + offset)
    with module.graph.inserting_before(node):
        bias = module.graph.get_attr(name)
    args = [*node.args, *([None] * (3 - len(node.args)))]
    args[2] = bias
    node.args = tuple(args)
