"""Groups that fail are halved until each failing sample is alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from quanthost.errors import CaptureError
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.splitting import StageFailure, split_on_failure


def samples(*names: str) -> list[Sample]:
    return [Sample(name=name, module=nn.Identity(), inputs=(torch.zeros(1),)) for name in names]


def test_groups() -> None:
    """At most so many at once, in order."""
    sizes = []

    def work(group: Sequence[Sample]) -> list[str]:
        sizes.append(len(group))
        return [sample.name.upper() for sample in group]

    results = [result for _, result in split_on_failure(samples(*"abcde"), work, 2, "prepare")]

    assert results == ["A", "B", "C", "D", "E"]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no")])
def test_one_failure(error: BaseException) -> None:
    """The failing sample alone has a failure; the others have results."""

    def work(group: Sequence[Sample]) -> list[str]:
        if any(sample.name == "c" for sample in group):
            raise error
        return [sample.name for sample in group]

    results = {s.name: result for s, result in split_on_failure(samples(*"abcd"), work, 4, "lower")}

    failure = results.pop("c")
    assert results == {"a": "a", "b": "b", "d": "d"}
    assert isinstance(failure, StageFailure)
    assert str(failure) == f"lower refuses it: {type(error).__name__}: no"


def test_stage_of_an_error() -> None:
    """An error that knows its stage keeps it; its notes come first, its first line is the short form."""
    error = CaptureError("an if", needed="torch.cond", remedy="rewrite it", stage="capture")
    error.add_note("a seam")

    def work(group: Sequence[Sample]) -> list[str]:
        raise error

    ((_, failure),) = split_on_failure(samples("a"), work, 1, "lower")

    assert isinstance(failure, StageFailure)
    assert failure.stage == "capture"
    assert failure.first_line == "an if"
    assert str(failure).startswith("a seam; then capture refuses it: CaptureError: an if")
