"""The smallest graph that shows a failure: the sample alone, with dimensions as small as it stays wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from quanthost.catalogue import Operand, PatternModule, Variation, module_of
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.flow import Failed, proved_of, text_of
from quanthost.testing.proving.judging import differs
from quanthost.testing.proving.session import Check, Fault, Session

__all__ = ["smallest"]

# lowerings spent on one failure
_TRIES = 8


def smallest(session: Session, check: Check, fault: Fault) -> str:
    """The graph as text; ``""`` where no sample shows the failure."""
    if fault.sample is None:
        return ""
    sample = fault.sample
    if fault.recipe is not None and check.trials and "refuses it" in fault.message:
        recipe = session.subject.recipe(fault.recipe)

        def still(smaller: Sample) -> bool:
            try:
                proved = proved_of(session.subject, recipe.name, [smaller])[0]
            except Exception as error:
                return type(error).__name__ in fault.message
            return isinstance(proved, Failed) or differs(proved, recipe, None) is not None

        sample = shrunk(sample, still)
    return text_of(sample)


def shrunk(sample: Sample, still_fails: Callable[[Sample], bool], tries: int = _TRIES) -> Sample:
    """The sample with the smallest dimensions that still fails, of those that are tried."""
    for _ in range(tries):
        candidate = next((c for c in smaller(sample) if still_fails(c)), None)
        if candidate is None:
            return sample
        sample = candidate
    return sample


def smaller(sample: Sample) -> Iterator[Sample]:
    """The same sample with one dimension of all operands alike halved, the largest first."""
    module, pattern = sample.module, sample.pattern
    if not isinstance(module, PatternModule) or pattern is None:
        return
    variation = module.variation
    sizes = {size for operand in _operands(variation) for size in operand.shape if size > 1}
    for size in sorted(sizes, reverse=True):
        arguments = {key: _resized(value, size, size // 2) for key, value in variation.arguments.items()}
        try:
            made = module_of(pattern, attrs.evolve(variation, arguments=arguments), dict(sample.roles))
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue
        yield attrs.evolve(sample, module=made, inputs=tuple(made.inputs), dynamic=tuple(made.dynamic))


def _operands(variation: Variation) -> Iterator[Operand]:
    for value in variation.arguments.values():
        items = value if isinstance(value, list) else [value]
        yield from (item for item in items if isinstance(item, Operand))


def _resized(value: Any, old: int, new: int) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], Operand):
        return [_resized(item, old, new) for item in value]
    if not isinstance(value, Operand):
        return value
    return value.resized(*(new if size == old else size for size in value.shape))
