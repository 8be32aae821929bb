"""Tensor arguments of the catalogue: shape, values, dtype and memory layout, made the same each time."""

from __future__ import annotations

import attrs
import torch

__all__ = ["Operand"]

_LAYOUTS = ("contiguous", "channels_last", "transposed")


@attrs.frozen
class Operand:
    """A tensor argument: values from ``low`` to ``high``, both ends among them.

    ``below`` makes it integers from 0 up to that number instead. ``layout`` is ``"contiguous"``,
    ``"channels_last"`` (of rank 4) or ``"transposed"`` (its last two dimensions are strided the other way).
    ``computed`` makes an input of it also where it is a weight, ``boolean`` truth values of the integers.
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
