"""Refinement: candidates are judged by the model's outputs, and biases corrected where it helps."""

from __future__ import annotations

import attrs
import pytest
import torch
from flow_nets import Net, calibrated, images, prepared, rand, seeded, sqnr, untouched
from torch import nn

import quanthost
from quanthost.stages.calibrating.batch_sample import BatchSample
from quanthost.stages.converting.refine import refine
from quanthost.stages.records import CalibratedModel, ConvertedModel
from quanthost.toolchain import pt2e
from quanthost.values import DType, Estimator, Override, QSpec, RangeEstimator

MINMAX = QSpec(dtype=DType.INT8, estimator=RangeEstimator(kind=Estimator.MINMAX))


class Lopsided(nn.Module):
    """One weight is far larger than the others, which one scale for all rounds away: means shift."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        seeded(self)
        with torch.no_grad():
            self.first.weight.mul_(0.01)
            self.first.weight[0, 0, 0, 0] = 3.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(torch.relu(self.first(x + 2.0)).mean((2, 3)))
        return y


def data(seeds: range) -> list[torch.Tensor]:
    """Images, each with a brightness of its own."""
    return [rand(1, 3, 8, 8, seed=seed) + rand(1, seed=seed + 1000) for seed in seeds]


DATA = data(range(16))


@pytest.fixture(scope="module")
def lopsided() -> CalibratedModel:
    return quanthost.calibrate(prepared(Lopsided(), DATA[0], recipe="int8_static_per_tensor"), DATA)


@pytest.fixture(scope="module")
def refined(lopsided: CalibratedModel) -> ConvertedModel:
    return quanthost.convert(lopsided)


@pytest.fixture(scope="module")
def plain() -> CalibratedModel:
    """What no correction helps."""
    return quanthost.calibrate(prepared(), images(64))


def with_one_batch(made: CalibratedModel) -> CalibratedModel:
    """The same ranges, and a single batch to judge them by."""
    assert made.statistics is not None
    one = BatchSample(made.statistics.sample.batches[:1])
    return attrs.evolve(made, statistics=attrs.evolve(made.statistics, sample=one))


def test_what_was_tried(refined: ConvertedModel) -> None:
    """Each estimator that AUTO stands for, as it is and with corrected biases; the choice is among them."""
    assert refined.refinement is not None
    names = [trial.name for trial in refined.refinement.trials]
    assert names == ["minmax", "mse", "minmax, biases corrected", "mse, biases corrected"]
    assert refined.refinement.choice in names


def test_trials_are_measured_on_the_outputs(plain: CalibratedModel) -> None:
    """The level of the choice is that of the module over every other batch, to a hundredth of a decibel."""
    converted = quanthost.convert(plain)
    made = converted.refinement
    assert made is not None
    model, judging = Net(), plain.sample[1::2]
    wanted = torch.cat([model(*batch) for batch in judging])
    got = torch.cat([converted.module(*batch) for batch in judging])
    told = next(t.sqnr_db for t in made.trials if t.name == made.choice)
    assert sqnr(wanted, got) == pytest.approx(told, abs=0.01)


def test_corrected_biases_bring_the_means_back(refined: ConvertedModel) -> None:
    """They are taken here, where they help by far more than a decibel."""
    assert refined.refinement is not None
    assert refined.refinement.bias_corrected
    level = {trial.name: trial.sqnr_db for trial in refined.refinement.trials}
    plain, fixed = refined.refinement.choice.split(",")[0], refined.refinement.choice
    assert level[fixed] > max(level["minmax"], level["mse"]) + 1
    assert fixed == f"{plain}, biases corrected"
    biases = [name for name, _ in refined.module.named_buffers() if "corrected_bias" in name]
    assert biases == ["_conv2d_corrected_bias", "_linear_corrected_bias"]
    true, made = (torch.cat([m(x) for x in DATA]).mean(0).detach() for m in (Lopsided(), refined.module))
    assert torch.allclose(true, made, atol=float(true.abs().max()) * 0.01)


def test_corrected_biases_serve_data_that_nobody_saw(
    lopsided: CalibratedModel, refined: ConvertedModel
) -> None:
    """Images of the same kind come nearer to the float model too, by the decibel that was asked for."""
    plain = quanthost.convert(with_one_batch(lopsided)).module
    unseen = data(range(100, 116))
    wanted, without, fixed = (torch.cat([m(x) for x in unseen]) for m in (Lopsided(), plain, refined.module))
    assert sqnr(wanted, fixed) > sqnr(wanted, without) + 1


def test_one_batch_proves_nothing(lopsided: CalibratedModel) -> None:
    """Without a second half to check with, biases stay as they are."""
    alone = with_one_batch(lopsided)
    refinement = quanthost.convert(alone).refinement
    assert refinement is not None
    assert not refinement.bias_corrected
    assert refinement.choice in ("minmax", "mse")


def test_the_best_plain_candidate_is_taken_where_no_correction_helps(plain: CalibratedModel) -> None:
    """Its level is the highest of the plain ones."""
    made = quanthost.convert(plain).refinement
    assert made is not None
    assert not made.bias_corrected
    levels = {trial.name: trial.sqnr_db for trial in made.trials if "corrected" not in trial.name}
    assert levels[made.choice] == max(levels.values())


def test_nothing_is_tried_without_a_sample() -> None:
    """Ranges are those of the estimator that stands in for AUTO."""
    module = pt2e.deep_copy(calibrated().module)
    refinement, offsets = refine(module, ())
    made = pt2e.convert(module)
    assert (refinement, offsets) == (None, {})
    assert sqnr(Net()(images(1)[0]), made(images(1)[0])) > 25


def test_nothing_is_tried_where_every_estimator_is_given() -> None:
    """What the app developer chose by an override is not replaced."""
    rule = Override(module_type="Conv2d", activation=MINMAX)
    some = quanthost.convert(quanthost.calibrate(prepared(overrides=(rule,)), images()))
    assert some.refinement is not None
    rules = tuple(
        Override(operator=f"aten.{name}", activation=MINMAX) for name in ("conv2d", "mean", "linear")
    )
    every = quanthost.convert(quanthost.calibrate(prepared(overrides=rules), images()))
    assert every.refinement is None


def test_the_graph_that_is_handed_in_survives() -> None:
    """Every candidate is made of a copy: weights and buffers are shared, and no one writes to them."""
    made = calibrated()
    copied = pt2e.deep_copy(made.module)
    with untouched(made.module):
        refine(copied, made.sample)
    assert torch.equal(copied(images(1)[0]), made.module(images(1)[0]))


def test_outputs_that_are_not_float_are_not_judged() -> None:
    """Indices beside scores: only the scores have a noise."""

    class Ranks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            seeded(self)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, torch.Tensor]:
            scores = self.layer(x)
            return scores, scores.argmax(1), None, x

    batches = [rand(2, 4, seed=seed) for seed in range(3)]
    made = quanthost.convert(quanthost.calibrate(prepared(Ranks(), batches[0]), batches))
    assert made.refinement is not None
    # the third output is the input itself: no noise counts as 200 dB
    assert all(100 < trial.sqnr_db < 130 for trial in made.refinement.trials)
