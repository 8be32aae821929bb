"""``Entry``: an operator of the catalogue with plain arguments, variations of them, and its properties."""

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
    """One way to call an operator: all its arguments, and which dimensions of inputs may vary.

    ``dynamic`` has the dynamic dimensions by argument. ``readers`` adds other readers: ``""`` adds none,
    ``"input"`` an operator that reads the first input too, ``"output"`` two operators that read the result.
    """

    name: str
    operator: str
    arguments: Arguments
    dynamic: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    readers: str = ""


@attrs.frozen(kw_only=True)
class Entry:
    """An aten operator (``"conv2d.default"``) with plain arguments and the facts that hold for any backend.

    ``changes`` are variations by name: the arguments that differ from ``plain``; the key ``"operator"``
    selects another overload. ``batched`` are the tensors whose first dimension is a batch, ``any_rank`` those
    that may have any rank, all the same. ``elementwise``: each element of the result depends only on the same
    element of the operands.

    ``channel_axes`` has the axis of the output channels for each weight. ``moves``: the result contains only
    values of the operands, or zeros; ``joins`` are the operands that must then share parameters.
    ``result_range`` bounds the result for any input. ``scales_with`` are the operands of which a multiple
    gives the same multiple of the result: such an operator is exact at any scale. ``dynamic`` are dimensions
    besides the batch that may vary, in ``dynamic_changes`` too.
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
        return {variation.name: variation for variation in self.variations()}[name]

    def variations(self) -> Iterator[Variation]:
        """``"plain"``, then the changes, then variations of shape, layout, dtype, sizes and readers."""
        yield Variation(name="plain", operator=self.name, arguments=self.plain)
        for name, change in self.changes.items():
            arguments = {**self.plain, **change}
            operator = arguments.pop("operator", self.name)
            yield Variation(name=name, operator=operator, arguments=arguments)
        yield from self._shape_variations()
        yield from self._layout_variations()
        yield from self._dynamic_variations()
        for readers in ("input", "output"):
            yield Variation(
                name=f"{readers}_read_twice", operator=self.name, arguments=self.plain, readers=readers
            )

    def _shape_variations(self) -> Iterator[Variation]:
        for rank in range(_MAX_RANK + 1) if self.any_rank else ():
            shape = _shape_of_rank(rank)
            resized = {name: self.plain[name].resized(*shape) for name in self.any_rank}
            yield self._vary(f"rank={rank}", resized)
        for size in (0, 1) if self.batched else ():
            resized = {name: _set_batch(self.plain[name], size) for name in self.batched}
            if resized != {name: self.plain[name] for name in self.batched}:
                yield self._vary(f"batch={size}", resized)

    def _layout_variations(self) -> Iterator[Variation]:
        floats = {name: value for name, value in self._tensors() if value.below is None}
        if any(len(value.shape) == 4 for value in floats.values()):
            yield self._vary("channels_last", _set_layout(floats, "channels_last"))
        if any(len(value.shape) > 1 for value in floats.values()):
            yield self._vary("transposed", _set_layout(floats, "transposed"))
        for dtype in (torch.float64, torch.float16) if floats or self._has_float_lists() else ():
            change = {name: _set_dtype(value, dtype) for name, value in self.plain.items()}
            yield self._vary(str(dtype).removeprefix("torch."), change)

    def _dynamic_variations(self) -> Iterator[Variation]:
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

    def _vary(self, name: str, change: Arguments) -> Variation:
        return Variation(name=name, operator=self.name, arguments={**self.plain, **change})

    def _has_float_lists(self) -> bool:
        """Whether an argument is a list of float tensors."""
        lists = (value for value in self.plain.values() if isinstance(value, list))
        return any(isinstance(item, Operand) and item.below is None for items in lists for item in items)

    def _tensors(self) -> Iterator[tuple[str, Operand]]:
        return ((name, value) for name, value in self.plain.items() if isinstance(value, Operand))


def _shape_of_rank(rank: int) -> tuple[int, ...]:
    return (2, 3, 2, 4, 2, 1, 2)[:rank] if rank > 1 else (6,) * rank


def _set_dtype(value: Any, dtype: torch.dtype) -> Any:
    """A float tensor argument, or a list of them, with another dtype; other arguments stay."""
    if isinstance(value, list):
        return [_set_dtype(item, dtype) for item in value]
    is_float = isinstance(value, Operand) and value.below is None
    return attrs.evolve(value, dtype=dtype) if is_float else value


def _set_batch(value: Any, size: int) -> Any:
    if isinstance(value, list):
        return [_set_batch(item, size) for item in value]
    return value.resized(size, *value.shape[1:])


def _set_layout(operands: Mapping[str, Operand], layout: str) -> dict[str, Operand]:
    return {name: attrs.evolve(value, layout=layout) for name, value in operands.items()}
