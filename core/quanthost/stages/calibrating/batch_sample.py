"""Keeps the few batches on which ``convert`` compares its trials: the same for every split of the data."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

import attrs
import torch

__all__ = ["BatchSample", "SampledBatch"]

# limits that keep convert fast: batches, and values in all of them
_MAX_BATCHES, _MAX_VALUES = 128, 1_000_000
# one half corrects biases, the other half judges the correction
_MIN_BATCHES = 2


@attrs.frozen(eq=False)
class SampledBatch:
    """A batch by its digest; ``leaves`` are its flat inputs."""

    digest: str
    leaves: tuple[torch.Tensor, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(leaf.numel() for leaf in self.leaves)


@attrs.frozen(eq=False)
class BatchSample:
    """The batches with the smallest digests: at most 128, and at most a million values beyond the first two.

    ``cut`` is the digest of the first batch that was left out, ``None`` if none was. A commutative monoid
    under ``merge``: a batch beyond the cut of one part is beyond the cut of all data. Equal batches count
    once.
    """

    batches: tuple[SampledBatch, ...] = ()
    cut: str | None = None

    def merge(self, other: BatchSample) -> BatchSample:
        """The sample of both parts of the data; neither operand changes."""
        cuts = [sample.cut for sample in (self, other) if sample.cut is not None]
        return _smallest((*self.batches, *other.batches), min(cuts, default=None))

    def with_batch(self, digest: str, leaves: Iterable[object]) -> BatchSample:
        """The sample after one more batch; a batch that enters the sample is copied.

        A batch with leaves that are no tensors never enters.
        """
        if self.cut is not None and digest >= self.cut:
            return self
        place = bisect.bisect_left(self.batches, digest, key=lambda batch: batch.digest)
        if place < len(self.batches) and self.batches[place].digest == digest:
            return self
        flat = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        # the batch shares the caller's memory until it is known to enter
        sample = _smallest((*self.batches, SampledBatch(digest, flat)), self.cut)
        if not any(batch.leaves is flat for batch in sample.batches):
            return sample
        copy = SampledBatch(
            digest, tuple(leaf.detach().clone(memory_format=torch.contiguous_format) for leaf in flat)
        )
        batches = tuple(copy if batch.leaves is flat else batch for batch in sample.batches)
        return BatchSample(batches, sample.cut)


def _smallest(batches: Iterable[SampledBatch], cut: str | None) -> BatchSample:
    """The batches before the cut, up to the limits."""
    by_digest: dict[str, SampledBatch] = {}
    for batch in batches:
        by_digest.setdefault(batch.digest, batch)
    sample: list[SampledBatch] = []
    values = 0
    for batch in sorted(by_digest.values(), key=lambda batch: batch.digest):
        if cut is not None and batch.digest >= cut:
            break
        values += batch.size
        if len(sample) == _MAX_BATCHES or (len(sample) >= _MIN_BATCHES and values > _MAX_VALUES):
            return BatchSample(tuple(sample), batch.digest)
        sample.append(batch)
    return BatchSample(tuple(sample), cut)
