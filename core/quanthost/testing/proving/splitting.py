"""Works on many samples at once, and splits a group that fails until each failing sample is alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import attrs

from quanthost.errors import EmptyProgramError, NoDataError
from quanthost.testing.cases.samples import Sample

__all__ = ["StageFailure", "split_on_failure"]

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class StageFailure:
    """A stage that refused a sample, and the error that it raised."""

    stage: str
    error: BaseException

    @property
    def is_without_data(self) -> bool:
        """Whether calibration found no range because the tensor is empty."""
        return isinstance(self.error, NoDataError)

    @property
    def is_idle(self) -> bool:
        """Whether the sample was alone in its program and computes nothing."""
        return isinstance(self.error, EmptyProgramError)

    @property
    def first_line(self) -> str:
        return str(self.error).strip().partition("\n")[0]

    def __str__(self) -> str:
        text = str(self.error).strip() or type(self.error).__name__
        notes = getattr(self.error, "__notes__", [])
        before = f"{notes[0]}; then " if notes else ""
        return f"{before}{self.stage} refuses it: {type(self.error).__name__}: {text}"


def split_on_failure(
    samples: Sequence[Sample], work: Callable[[Sequence[Sample]], list[_T]], most: int, stage: str
) -> Iterator[tuple[Sample, _T | StageFailure]]:
    """Work on at most ``most`` samples at once; if that fails, on each half, down to a single sample.

    If a group fails and its halves do not, the results of the halves count.
    """
    for start in range(0, len(samples), most):
        yield from _work_or_halve(samples[start : start + most], work, stage)


def _work_or_halve(
    samples: Sequence[Sample], work: Callable[[Sequence[Sample]], list[_T]], stage: str
) -> Iterator[tuple[Sample, _T | StageFailure]]:
    try:
        yield from zip(samples, work(samples))
        return
    # a backend's code may raise anything
    except (Exception, SystemExit) as error:
        failure = error
    if len(samples) == 1:
        yield samples[0], StageFailure(stage=getattr(failure, "stage", None) or stage, error=failure)
        return
    middle = len(samples) // 2
    yield from _work_or_halve(samples[:middle], work, stage)
    yield from _work_or_halve(samples[middle:], work, stage)
