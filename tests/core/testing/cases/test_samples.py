"""Samples of rows and operators: their variations, regimes, and shapes."""

from __future__ import annotations

import torch
from toy_backends import ROWS

from quanthost.api import Kernel, SupportTable
from quanthost.catalogue import CATALOGUE
from quanthost.testing import Branches
from quanthost.testing.cases.samples import (
    Regime,
    Sample,
    build_operator_samples,
    build_row_samples,
    find_undeclared,
    list_variations,
    reshape_sample,
)

LINEAR, RELU = ROWS[0], ROWS[1]


def plain(operator: str) -> Sample:
    (sample,) = build_operator_samples(CATALOGUE[operator])
    return sample


def test_samples_of_a_row() -> None:
    """One for each variation, named by row, operator and variation; the plain one comes first."""
    samples = list(build_row_samples(RELU))

    assert samples[0].name == "relu/relu:plain"
    assert {s.variation for s in samples} <= {v.name for _, v in list_variations(RELU)}
    assert all(s.row == "relu" and s.pattern is RELU.pattern for s in samples)


def test_regimes() -> None:
    """Values all positive, all negative, scaled, or large at different places; integers stay."""
    sample = plain("mul.Tensor")
    scaled = {regime: sample.scale_to(regime) for regime in Regime}

    assert scaled[Regime.PLAIN] == sample.inputs
    assert all(bool((x > 0).all()) for x in scaled[Regime.POSITIVE] or ())
    assert all(bool((x < 0).all()) for x in scaled[Regime.NEGATIVE] or ())
    first, second = scaled[Regime.APART] or ()
    assert bool(((first.abs() > 1) != (second.abs() > 1)).any())


def test_operator_without_a_regime() -> None:
    """A square root is not defined below zero; a sigmoid does not scale with its input."""
    assert plain("sqrt.default").scale_to(Regime.NEGATIVE) is None
    assert plain("sigmoid.default").scale_to(Regime.HUGE) is None


def test_shorter_inputs() -> None:
    """One less along each dimension that may vary."""
    (sample,) = (s for s in build_row_samples(RELU) if s.variation == "dynamic_batch")
    (shorter,) = sample.shorten(sample.inputs)

    assert sample.is_dynamic
    assert shorter.shape[0] == sample.inputs[0].shape[0] - 1
    assert shorter.shape[1:] == sample.inputs[0].shape[1:]


def test_other_shapes() -> None:
    """An elementwise operator takes any shape, a linear layer its own."""
    relu, linear = (next(build_row_samples(row)) for row in (RELU, LINEAR))
    reshaped = reshape_sample(relu, (2, 7))

    assert reshaped is not None
    assert reshaped.inputs[0].shape == (2, 7)
    assert reshape_sample(linear, (2, 7)) is None


def test_undeclared_operators() -> None:
    """Those that no row's pattern has for the kernel."""
    bases = {entry.base for entry in find_undeclared(SupportTable(ROWS), Kernel.STATIC)}

    assert "tanh" in bases
    assert not bases & {"linear", "relu", "permute", "max_pool2d"}
    assert "relu" in {entry.base for entry in find_undeclared(SupportTable(ROWS), Kernel.FLOAT)}


def test_branches() -> None:
    """Each module gets its own inputs; the outputs come in order."""
    samples = [plain("add.Tensor"), plain("relu.default")]
    inputs = [x for sample in samples for x in sample.inputs]

    total, rectified = Branches(samples)(*inputs)

    assert torch.equal(total, samples[0].module(*samples[0].inputs))
    assert torch.equal(rectified, torch.relu(samples[1].inputs[0]))
