"""The inputs of each run of a program."""

from __future__ import annotations

import torch
from toy_backends import ROWS

from quanthost.catalogue import CATALOGUE
from quanthost.testing.cases.samples import Regime, build_operator_samples, build_row_samples
from quanthost.testing.proving.executing import BEYOND, build_run_inputs, count_outputs


def test_two_runs() -> None:
    """As calibrated, and of larger range; integers stay as they are."""
    (sample,) = build_operator_samples(CATALOGUE["gather.default"])
    plain, beyond = build_run_inputs([sample], Regime.PLAIN)

    assert [torch.equal(a, b) for a, b in zip(plain, sample.inputs, strict=True)] == [True] * len(plain)
    for x, y in zip(plain, beyond, strict=True):
        assert torch.equal(y, x * BEYOND if x.is_floating_point() else x)
    assert count_outputs(sample) == 1


def test_operands_apart() -> None:
    """Beyond the calibrated range both operands are large at all places."""
    (sample,) = build_operator_samples(CATALOGUE["mul.Tensor"])
    _, beyond = build_run_inputs([sample], Regime.APART)

    huge = sample.scale_to(Regime.HUGE)
    assert huge is not None
    assert all(torch.equal(x, y * BEYOND) for x, y in zip(beyond, huge, strict=True))


def test_a_third_run() -> None:
    """With sizes that may vary, a smaller one, and of that sample alone."""
    dynamic = next(s for s in build_row_samples(ROWS[1]) if s.variation == "dynamic_batch")
    fixed = next(build_row_samples(ROWS[1]))
    runs = build_run_inputs([fixed, dynamic], Regime.PLAIN)

    assert len(runs) == 3
    assert [x.shape[0] for x in runs[2]] == [fixed.inputs[0].shape[0], dynamic.inputs[0].shape[0] - 1]
