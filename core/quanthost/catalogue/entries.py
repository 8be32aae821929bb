"""One operator of the catalogue: plain arguments, variations of one argument each, and what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import attrs
import torch

from quanthost.catalogue.operands import Operand

__all__ = ["Arguments", "Entry", "Variation"]

Arguments: TypeAlias = Mapping[str, Any]
_MAX_RANK = 7


@attrs.frozen(kw_only=True)
class Variation:
    """One way to call an operator: its arguments in full, and which dimensions of inputs may vary.

    ``dynamic`` gives the dynamic dimensions by argument. ``readers`` says who else reads: ``""`` nobody,
    ``"input"`` another operator the first input, ``"output"`` two others the result.
    """

    name: str
    operator: str
    arguments: Arguments
    dynamic: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    readers: str = ""


@attrs.frozen(kw_only=True)
class Entry:
    """An aten operator (``"conv2d.default"``), plain arguments for it, and facts that no table decides.

    ``changes`` are variations by name: arguments that differ from ``plain``; the key ``"operator"`` calls
    another overload. ``batched`` are the tensors whose first dimension is a batch, ``any_rank`` those that
    may have any rank alike. ``elementwise`` marks each element of the result as a function of the same
    element of the operands.

    ``channel_axes`` gives for a weight the axis along which the output channels lie. ``moves`` says that
    the result holds values of its operands (or zeros) and no others, ``joins`` names the operands that must
    then agree. ``result_range`` are bounds of the result whatever the input is. ``scales_with`` names the
    operands of which a multiple gives the same multiple of the result: such an operator is exact at any
    scale. ``dynamic`` are dimensions, beside the batch, that may vary, also in ``dynamic_changes``.
    """

    name: str
    plain: Arguments
    changes: Mapping[str, Arguments] = attrs.field(factory=dict)
    batched: tuple[str, ...] = ()
    any_rank: tuple[str, ...] = ()
    elementwise: bool = False
    channel_axes: Mapping[str, int] = attrs.field(factory=dict)
    moves: bool = False
    joins: tuple[str, ...] = ()
    result_range: tuple[float, float] | None = None
    scales_with: tuple[str, ...] = ()
    dynamic: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    dynamic_changes: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The operator's name without overload."""
        return self.name.partition(".")[0]

    def variation(self, name: str) -> Variation:
        """The variation of that name.

        Raises:
            KeyError: there is none.
        """
        found = {each.name: each for each in self.variations()}
        return found[name]

    def variations(self) -> Iterator[Variation]:
        """``"plain"`` first, then each change, then what can be done to any operator of its kind."""
        yield Variation(name="plain", operator=self.name, arguments=self.plain)
        for name, changed in self.changes.items():
            arguments = {**self.plain, **changed}
            operator = arguments.pop("operator", self.name)
            yield Variation(name=name, operator=operator, arguments=arguments)
        yield from self._of_shape()
        yield from self._of_layout()
        yield from self._of_sizes_that_vary()
        for readers in ("input", "output"):
            yield Variation(
                name=f"{readers}_read_twice", operator=self.name, arguments=self.plain, readers=readers
            )

    def _of_shape(self) -> Iterator[Variation]:
        for rank in range(_MAX_RANK + 1) if self.any_rank else ():
            shape = _of_rank(rank)
            yield self._with(
                f"rank={rank}", {name: self.plain[name].resized(*shape) for name in self.any_rank}
            )
        for size in (0, 1) if self.batched else ():
            resized = {name: _batch(self.plain[name], size) for name in self.batched}
            if resized != {name: self.plain[name] for name in self.batched}:
                yield self._with(f"batch={size}", resized)

    def _of_layout(self) -> Iterator[Variation]:
        floats = {name: value for name, value in self._tensors() if value.below is None}
        if any(len(value.shape) == 4 for value in floats.values()):
            yield self._with("channels_last", _laid_out(floats, "channels_last"))
        if any(len(value.shape) > 1 for value in floats.values()):
            yield self._with("transposed", _laid_out(floats, "transposed"))
        for dtype in (torch.float64, torch.float16) if floats or self._lists() else ():
            changed = {name: _each(value, dtype=dtype) for name, value in self.plain.items()}
            yield self._with(str(dtype).removeprefix("torch."), changed)

    def _of_sizes_that_vary(self) -> Iterator[Variation]:
        if self.batched:
            dynamic = dict.fromkeys(self.batched, (0,))
            yield Variation(name="dynamic_batch", operator=self.name, arguments=self.plain, dynamic=dynamic)
        if self.dynamic:
            yield Variation(
                name="dynamic_sizes", operator=self.name, arguments=self.plain, dynamic=self.dynamic
            )

        for name in self.dynamic_changes:
            arguments = {**self.plain, **self.changes[name]}
            yield Variation(
                name=f"dynamic_{name}", operator=self.name, arguments=arguments, dynamic=self.dynamic
            )

    def _with(self, name: str, changed: Arguments) -> Variation:
        return Variation(name=name, operator=self.name, arguments={**self.plain, **changed})

    def _lists(self) -> bool:
        """Whether an argument is a list of float tensors."""
        lists = (value for value in self.plain.values() if isinstance(value, list))
        return any(isinstance(item, Operand) and item.below is None for items in lists for item in items)

    def _tensors(self) -> Iterator[tuple[str, Operand]]:
        return ((name, value) for name, value in self.plain.items() if isinstance(value, Operand))


def _of_rank(rank: int) -> tuple[int, ...]:
    return (2, 3, 2, 4, 2, 1, 2)[:rank] if rank > 1 else (6,) * rank


def _each(value: Any, **changed: Any) -> Any:
    """A tensor argument, or each of a list, with another field."""
    if isinstance(value, list):
        return [_each(item, **changed) for item in value]
    return attrs.evolve(value, **changed) if isinstance(value, Operand) and value.below is None else value


def _batch(value: Any, size: int) -> Any:
    if isinstance(value, list):
        return [_batch(item, size) for item in value]
    return value.resized(size, *value.shape[1:])


def _laid_out(operands: Mapping[str, Operand], layout: str) -> dict[str, Operand]:
    return {name: attrs.evolve(value, layout=layout) for name, value in operands.items()}
