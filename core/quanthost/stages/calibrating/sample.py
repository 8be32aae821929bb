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
    """The batches with the least digests: at most 128, and a million values unless the first two have more.

    ``cut`` is the digest of the first batch that is not among them, if there is one. A commutative monoid
    under ``merge``: what comes after the cut of a part comes after that of all data. Equal batches count
    once, since the second tells nothing new.
    """

    held: tuple[Sampled, ...] = ()
    cut: str | None = None

    def merge(self, other: Sample) -> Sample:
        """The sample of both streams; neither operand changes."""
        cuts = [sample.cut for sample in (self, other) if sample.cut is not None]
        return _first((*self.held, *other.held), min(cuts, default=None))

    def offered(self, digest: str, leaves: Iterable[object]) -> Sample:
        """The sample with one more batch, of which it keeps a copy if it takes it.

        A batch that does not consist of tensors alone is not taken.
        """
        if self.cut is not None and digest >= self.cut:
            return self
        place = bisect.bisect_left(self.held, digest, key=lambda batch: batch.digest)
        if place < len(self.held) and self.held[place].digest == digest:
            return self
        flat = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        # shares the memory until it is known to be kept
        made = _first((*self.held, Sampled(digest, flat)), self.cut)
        if not any(batch.leaves is flat for batch in made.held):
            return made
        copy = Sampled(
            digest, tuple(leaf.detach().clone(memory_format=torch.contiguous_format) for leaf in flat)
        )
        return Sample(tuple(copy if batch.leaves is flat else batch for batch in made.held), made.cut)


def _first(batches: Iterable[Sampled], cut: str | None) -> Sample:
    """Those before the cut that are within the limits."""
    by_digest: dict[str, Sampled] = {}
    for batch in batches:
        by_digest.setdefault(batch.digest, batch)
    kept: list[Sampled] = []
    values = 0
    for batch in sorted(by_digest.values(), key=lambda batch: batch.digest):
        if cut is not None and batch.digest >= cut:
            break
        values += batch.size
        if len(kept) == _MOST or (len(kept) >= _LEAST and values > _VALUES):
            return Sample(tuple(kept), batch.digest)
        kept.append(batch)
    return Sample(tuple(kept), cut)
