"""Samples of one program: what is said of each does not depend on its neighbours."""

from __future__ import annotations

from functools import partial

import pytest
from toy_backends import RECIPE, backend

from quanthost.catalogue import CATALOGUE
from quanthost.testing.cases.samples import Sample, of_operator
from quanthost.testing.proving.flow import Failed, Proved, proved_of, split
from quanthost.testing.proving.subject import Subject

pytestmark = pytest.mark.slow


def of(*operators: str) -> list[Sample]:
    return [sample for name in operators for sample in of_operator(CATALOGUE[name], ["plain"])]


def proved(samples: list[Sample]) -> list[Proved | Failed]:
    work = partial(proved_of, Subject.of(backend()), RECIPE.name)
    return [each for _, each in split(samples, work, len(samples), "lower")]


def test_nothing_computed() -> None:
    """A copy of what is contiguous is its input: it is called idle beside an operator, and alone."""
    copied, rectified = proved(of("contiguous.default", "relu.default"))
    (alone,) = proved(of("contiguous.default"))

    assert [type(each) for each in (copied, rectified, alone)] == [Proved, Proved, Failed]
    assert [each.is_idle for each in (copied, rectified, alone)] == [True, False, True]
