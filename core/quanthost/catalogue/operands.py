"""``Operand``: a reproducible tensor argument, described by shape, range of values, dtype and layout."""

from __future__ import annotations

import attrs
import torch

__all__ = ["Operand"]

_LAYOUTS = ("contiguous", "channels_last", "transposed")


@attrs.frozen
class Operand:
    """A tensor argument with values from ``low`` to ``high``, including both.

    ``below`` makes it integers from 0 to below that number instead, ``boolean`` turns those into truth
    values. ``layout`` is ``"contiguous"``, ``"channels_last"`` (rank 4) or ``"transposed"`` (the strides of
    the last two dimensions are swapped). ``computed`` makes it an input even if it is a weight.
    """

    shape: tuple[int, ...]
    below: int | None = None
    low: float = -1.5
    high: float = 2.0
    dtype: torch.dtype = torch.float32
    layout: str = attrs.field(default="contiguous", validator=attrs.validators.in_(_LAYOUTS))
    computed: bool = False
    boolean: bool = False

    def make(self, generator: torch.Generator) -> torch.Tensor:
        if self.below is not None:
            integers = torch.randint(self.below, self.shape, generator=generator)
            return integers.bool() if self.boolean else integers
        values = self.low + (self.high - self.low) * torch.rand(self.shape, generator=generator)
        if values.numel() > 1:
            flat = values.view(-1)
            flat[0], flat[-1] = self.low, self.high
        values = values.to(self.dtype)
        if self.layout == "channels_last" and len(self.shape) == 4:
            return values.contiguous(memory_format=torch.channels_last)
        if self.layout == "transposed" and len(self.shape) > 1:
            return values.transpose(-1, -2).contiguous().transpose(-1, -2)
        return values

    def resized(self, *shape: int) -> Operand:
        return attrs.evolve(self, shape=shape)
