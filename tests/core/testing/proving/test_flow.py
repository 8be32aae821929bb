"""Samples of one program: the result of each does not depend on the others."""

from __future__ import annotations

from functools import partial

import pytest
from toy_backends import RECIPE, backend

from quanthost.catalogue import CATALOGUE
from quanthost.testing.cases.samples import Sample, build_operator_samples
from quanthost.testing.proving.flow import SampleResult, run_samples
from quanthost.testing.proving.splitting import StageFailure, split_on_failure
from quanthost.testing.proving.subject import Subject

pytestmark = pytest.mark.slow


def build(*operators: str) -> list[Sample]:
    return [sample for name in operators for sample in build_operator_samples(CATALOGUE[name])]


def run(samples: list[Sample]) -> list[SampleResult | StageFailure]:
    work = partial(run_samples, Subject.load(backend()), RECIPE.name)
    return [result for _, result in split_on_failure(samples, work, len(samples), "lower")]


def test_nothing_computed() -> None:
    """A copy of a contiguous tensor is its input: it is idle beside an operator, and alone."""
    copied, rectified = run(build("contiguous.default", "relu.default"))
    (alone,) = run(build("contiguous.default"))

    assert [type(each) for each in (copied, rectified, alone)] == [SampleResult] * 3
    assert [each.is_idle for each in (copied, rectified, alone)] == [True, False, True]


def test_empty_tensor() -> None:
    """Calibration finds no range in it."""
    (empty,) = build_operator_samples(CATALOGUE["relu.default"], ("batch=0",))
    (result,) = run([empty])

    assert isinstance(result, StageFailure)
    assert result.is_without_data
    assert not result.is_idle
