"""Refinement at convert: chooses the estimator that serves the outputs best, and corrects biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument
from quanthost.graph.view import constant
from quanthost.graph.walk import walk
from quanthost.toolchain import pt2e
from quanthost.toolchain.observer_rounding import ObserverRounding
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import Estimator, EstimatorTrial, RangeEstimator, Refinement

__all__ = ["Offsets", "correct_biases", "refine"]

Batches = Sequence[Sequence[Any]]
Outputs = Sequence[Sequence[Any]]
# the means of a node's result, by its name, float64 ``[channels]``
Means = dict[str, torch.Tensor]
# offsets to add to a node's result, by its name, float ``[channels]``
Offsets = dict[str, torch.Tensor]
# the estimators that AUTO stands for; a percentile clips rare values, and may lose unseen data
_ESTIMATORS = (RangeEstimator(kind=Estimator.MINMAX), RangeEstimator(kind=Estimator.MSE))
# a correction that gains less than this on unseen data may be chance
_WORTH_DB = 1.0


def refine(observed: fx.GraphModule, sample: Batches) -> tuple[Refinement | None, Offsets]:
    """Set the best of the estimators that ``AUTO`` stands for, and find offsets that correct biases.

    ``observed`` is a calibrated graph that the caller owns, ``sample`` flat inputs that calibration saw.
    Correcting a bias adds the mean difference, channel by channel, between the float and the quantized
    result (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    section 4.2, with means from data). Every other batch judges the candidates, and the rest corrects their
    biases. A correction is used if it gains a decibel over the best plain candidate; the whole sample then
    determines it. Without a sample or without ``AUTO`` nothing is tried; with a single batch, no correction.
    """
    automatic = [m for m in observed.modules() if isinstance(m, RangeObserver) and _is_auto(m)]
    if not sample or not automatic:
        return None, {}
    judge = _Judge(observed, automatic, sample)
    with torch.no_grad():
        plain = [judge.plain(kind) for kind in _ESTIMATORS]
        fixed = [judge.corrected(kind) for kind in _ESTIMATORS if len(sample) > 1]
        best = max(plain, key=_level)
        finalist = max(fixed, key=_level, default=best)
        keep = finalist.sqnr_db - best.sqnr_db >= _WORTH_DB
        choice = finalist if keep else best
        judge.choose(_ESTIMATORS[(fixed if keep else plain).index(choice)])
        offsets = judge.offsets() if keep else {}
    return Refinement(trials=(*plain, *fixed), choice=choice.name, bias_corrected=keep), offsets


class _Judge:
    """Compares the outputs that a calibrated graph would have after conversion with its float outputs."""

    def __init__(self, observed: fx.GraphModule, automatic: Sequence[RangeObserver], sample: Batches) -> None:
        self._observed, self._automatic, self._sample = observed, automatic, sample
        self._judging = sample[1::2] or sample
        self._rounding = ObserverRounding(observed)
        with torch.no_grad():
            self._means, self._means_of_half, reference = _means(observed, sample)
        self._reference = reference[1::2] or reference

    def choose(self, estimator: RangeEstimator) -> None:
        """Set the estimator of each observer without one."""
        for observer in self._automatic:
            observer.chosen = estimator
        pt2e.leave_room_for_biases(self._observed)
        self._rounding.renew()

    def plain(self, estimator: RangeEstimator) -> EstimatorTrial:
        self.choose(estimator)
        return self._trial(estimator.kind.value, {})

    def corrected(self, estimator: RangeEstimator) -> EstimatorTrial:
        """With biases corrected by the batches that do not judge."""
        self.choose(estimator)
        offsets = self._correct(self._sample[::2], self._means_of_half)
        return self._trial(f"{estimator.kind.value}, biases corrected", offsets)

    def offsets(self) -> Offsets:
        """The offsets that correct the biases, from the whole sample, with the estimator chosen last."""
        return self._correct(self._sample, self._means)

    def _trial(self, name: str, offsets: Offsets) -> EstimatorTrial:
        outputs = self._outputs(self._judging, offsets)
        return EstimatorTrial(name=name, sqnr_db=round(_quality(outputs, self._reference), 2))

    def _outputs(self, batches: Batches, offsets: Offsets) -> Outputs:
        def visit(node: fx.Node, results: list[Any]) -> list[Any]:
            offset = offsets.get(node.name)
            return results if offset is None else _plus(results, offset, node)

        return walk(self._observed, batches, visit, called=self._rounding)

    def _correct(self, batches: Batches, means: Means) -> Offsets:
        """The offsets that give each channel the mean of the float model, in order of execution.

        Each offset is added to its layer's result before the next layer runs.
        """
        offsets: Offsets = {}

        def visit(node: fx.Node, results: list[Any]) -> list[Any]:
            axis = operator_facts(node).channel_axis
            if axis is None or not self._can_correct(node):
                return results
            offsets[node.name] = (means[node.name] - _channel_mean(results, axis)).to(results[0].dtype)
            return _plus(results, offsets[node.name], node)

        walk(self._observed, batches, visit, called=self._rounding)
        return offsets

    def _can_correct(self, node: fx.Node) -> bool:
        """Whether the layer is quantized and its bias is float, so that it can take an offset."""
        bias = argument(node, "bias")
        quantized_bias = isinstance(bias, fx.Node) and constant(self._observed, bias) is None
        return not quantized_bias and constant(self._observed, node.args[1]) is None


def _plus(results: list[Any], offset: torch.Tensor, node: fx.Node) -> list[Any]:
    axis = operator_facts(node).channel_axis
    assert axis is not None
    shape = [1] * results[0].dim()
    shape[axis] = -1
    return [result + offset.reshape(shape) for result in results]


def _level(trial: EstimatorTrial) -> float:
    return trial.sqnr_db


def _is_auto(observer: RangeObserver) -> bool:
    return observer.observes_data and observer.spec.estimator.kind is Estimator.AUTO


def _quality(outputs: Outputs, reference: Outputs) -> float:
    """Mean over the outputs of 10·log10(Σ reference² / Σ (reference - output)²) in dB, at most 200."""
    signal: dict[int, float] = {}
    noise: dict[int, float] = {}
    for batch, expected in zip(outputs, reference):
        for number, (output, true) in enumerate(zip(batch, expected)):
            if isinstance(true, torch.Tensor) and true.is_floating_point():
                exact = true.double()
                signal[number] = signal.get(number, 0.0) + float(exact.square().sum())
                noise[number] = noise.get(number, 0.0) + float((exact - output.double()).square().sum())
    levels = [_decibel(signal[number], noise[number]) for number in signal]
    return sum(levels) / len(levels) if levels else 0.0


def _decibel(signal: float, noise: float) -> float:
    tiny = 1e-20 * signal + 1e-300
    return float(10.0 * torch.log10(torch.tensor((signal + 1e-300) / (noise + tiny), dtype=torch.float64)))


def _channel_mean(results: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Mean over all batches and positions, float64 ``[channels]``."""
    flat = [r.movedim(axis, 0).reshape(r.shape[axis], -1) for r in results]
    total = torch.stack([r.double().sum(1) for r in flat]).sum(0)
    return total / sum(r.shape[1] for r in flat)


def _means(observed: fx.GraphModule, batches: Batches) -> tuple[Means, Means, Outputs]:
    """Channel means of the float results, of all batches and of every second, and the float outputs."""
    means: Means = {}
    of_half: Means = {}

    def visit(node: fx.Node, results: list[Any]) -> list[Any]:
        axis = operator_facts(node).channel_axis
        if axis is not None:
            means[node.name] = _channel_mean(results, axis)
            of_half[node.name] = _channel_mean(results[::2], axis)
        return results

    outputs = walk(observed, batches, visit)
    return means, of_half, outputs


def correct_biases(module: fx.GraphModule, offsets: Offsets) -> None:
    """Add what ``refine`` found to the biases of the converted graph."""
    for node in list(module.graph.nodes):
        if node.name in offsets:
            _add_to_bias(module, node, offsets[node.name])
    module.recompile()


def _add_to_bias(module: fx.GraphModule, node: fx.Node, offset: torch.Tensor) -> None:
    own_bias = constant(module, argument(node, "bias"))
    name = f"_{node.name}_corrected_bias"
    module.register_buffer(name, offset if own_bias is None else own_bias.detach() + offset)
    with module.graph.inserting_before(node):
        bias = module.graph.get_attr(name)
    args = [*node.args, *([None] * (3 - len(node.args)))]
    args[2] = bias
    node.args = tuple(args)
