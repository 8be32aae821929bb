"""The few batches by which ``convert`` judges what it tries: the same ones however the data was split."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

import attrs
import torch

__all__ = ["Sample", "Sampled"]

# as many as judge a network without slowing convert: batches, and values in all of them
_MOST, _VALUES = 128, 1_000_000
# fewer prove nothing: biases are corrected by one half and judged by the other
_LEAST = 2


@attrs.frozen(eq=False)
class Sampled:
    """A batch by its digest; ``leaves`` are its flat inputs."""

    digest: str
    leaves: tuple[torch.Tensor, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(leaf.numel() for leaf in self.leaves)


@attrs.frozen(eq=False)
class Sample:
    """The batches with the least digests: at most 128, and a million values unless two have more.

    A commutative monoid under ``merge``: a batch that is among the first of all data is among the first
    of each part that holds it. Equal batches count once, since the second tells nothing new.
    """

    held: tuple[Sampled, ...] = ()
    _size: int = attrs.field(init=False, repr=False)

    @_size.default
    def _sum(self) -> int:
        return sum(batch.size for batch in self.held)

    def merge(self, other: Sample) -> Sample:
        """The sample of both streams; neither operand changes."""
        return self._of((*self.held, *other.held))

    def offered(self, digest: str, leaves: Iterable[object]) -> Sample:
        """The sample with one more batch, of which it keeps a copy if it takes it.

        A batch that does not consist of tensors alone is not taken.
        """
        place = bisect.bisect_left(self.held, digest, key=lambda batch: batch.digest)
        if place < len(self.held) and self.held[place].digest == digest:
            return self
        flat = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        if place == len(self.held) and self._is_full(Sampled(digest, flat).size):
            return self
        # shares the memory until it is known to be kept
        made = self._of((*self.held, Sampled(digest, flat)))
        if not any(batch.leaves is flat for batch in made.held):
            return made
        copy = Sampled(
            digest, tuple(leaf.detach().clone(memory_format=torch.contiguous_format) for leaf in flat)
        )
        return Sample(tuple(copy if batch.leaves is flat else batch for batch in made.held))

    def _is_full(self, size: int) -> bool:
        """Whether a batch of that size, after all that are held, is one too many."""
        held = len(self.held)
        return held == _MOST or (held >= _LEAST and self._size + size > _VALUES)

    @staticmethod
    def _of(batches: Iterable[Sampled]) -> Sample:
        by_digest: dict[str, Sampled] = {}
        for batch in batches:
            by_digest.setdefault(batch.digest, batch)
        kept: list[Sampled] = []
        values = 0
        for batch in sorted(by_digest.values(), key=lambda batch: batch.digest):
            values += batch.size
            if len(kept) == _MOST or (len(kept) >= _LEAST and values > _VALUES):
                break
            kept.append(batch)
        return Sample(tuple(kept))
