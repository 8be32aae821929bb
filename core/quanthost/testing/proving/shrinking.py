"""Finds the smallest graph that shows a failure: dimensions are halved as long as the sample still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from quanthost.catalogue import Operand, PatternModule, Variation, module_of
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.case import Case, CaseFailure
from quanthost.testing.proving.flow import run_samples
from quanthost.testing.proving.judging import compare_runtime
from quanthost.testing.proving.programs import describe_sample
from quanthost.testing.proving.subject import Subject

__all__ = ["describe_smallest", "shrink_sample"]

# lowerings spent on one failure
_TRIES = 8


def describe_smallest(subject: Subject, case: Case, failure: CaseFailure) -> str:
    """The smallest graph as text; ``""`` if no sample shows the failure."""
    if failure.sample is None:
        return ""
    sample = failure.sample
    if failure.recipe is not None and case.runs and "refuses it" in failure.message:
        recipe = subject.recipe(failure.recipe)

        def still_fails(smaller: Sample) -> bool:
            try:
                (result,) = run_samples(subject, recipe.name, [smaller])
            except Exception as error:
                return type(error).__name__ in failure.message
            return compare_runtime(result, recipe, None) is not None

        sample = shrink_sample(sample, still_fails)
    return describe_sample(sample)


def shrink_sample(sample: Sample, still_fails: Callable[[Sample], bool], tries: int = _TRIES) -> Sample:
    """Halve one dimension after the other while the sample still fails, at most ``tries`` times."""
    for _ in range(tries):
        candidate = next((c for c in _halve_dimensions(sample) if still_fails(c)), None)
        if candidate is None:
            return sample
        sample = candidate
    return sample


def _halve_dimensions(sample: Sample) -> Iterator[Sample]:
    """The sample with one size halved wherever operands have it, the largest size first."""
    module, pattern = sample.module, sample.pattern
    if not isinstance(module, PatternModule) or pattern is None:
        return
    variation = module.variation
    sizes = {size for operand in _list_operands(variation) for size in operand.shape if size > 1}
    for size in sorted(sizes, reverse=True):
        arguments = {key: _resize(value, size, size // 2) for key, value in variation.arguments.items()}
        try:
            smaller = module_of(pattern, attrs.evolve(variation, arguments=arguments), dict(sample.roles))
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue
        yield attrs.evolve(
            sample, module=smaller, inputs=tuple(smaller.inputs), dynamic=tuple(smaller.dynamic)
        )


def _list_operands(variation: Variation) -> Iterator[Operand]:
    for value in variation.arguments.values():
        items = value if isinstance(value, list) else [value]
        yield from (item for item in items if isinstance(item, Operand))


def _resize(value: Any, old: int, new: int) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], Operand):
        return [_resize(item, old, new) for item in value]
    if not isinstance(value, Operand):
        return value
    return value.resized(*(new if size == old else size for size in value.shape))
