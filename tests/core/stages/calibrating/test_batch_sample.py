"""The batches by which ``convert`` judges: the same ones for each order and split of the data."""

from __future__ import annotations

import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from quanthost.stages.calibrating.batch_sample import BatchSample

SIZED = st.lists(st.tuples(st.integers(0, 300), st.sampled_from([1, 9_000, 260_000, 600_000, 1_100_000])))
BLANK = torch.zeros(1_100_000)


@given(batches=SIZED, cut=st.integers(0, 20), seed=st.integers(0, 1000))
def test_the_sample_is_a_monoid(batches: list[tuple[int, int]], cut: int, seed: int) -> None:
    """Of any sizes: the least digests up to the limits, whatever came first or was merged first."""
    sizes = dict(batches)
    wanted: list[str] = []
    for number, (digest, size) in enumerate(sorted(sizes.items())):
        if number >= 2 and size + sum(sizes[int(name)] for name in wanted) > 1_000_000:
            break
        wanted.append(f"{digest:03d}")

    shuffled = [*batches, *batches[:5]]
    random.Random(seed).shuffle(shuffled)

    def sample(some: list[tuple[int, int]]) -> BatchSample:
        made = BatchSample()
        for digest, _ in some:
            made = made.with_batch(f"{digest:03d}", [BLANK[: sizes[digest]]])
        return made

    whole = sample(shuffled)
    assert [batch.digest for batch in whole.batches] == wanted[:128]
    for merged in (
        sample(shuffled[:cut]).merge(sample(shuffled[cut:])),
        sample(shuffled[cut:]).merge(sample(shuffled[:cut])),
        whole.merge(BatchSample()).merge(whole),
    ):
        assert [batch.digest for batch in merged.batches] == wanted[:128]
        assert merged.cut == whole.cut


def test_the_sample_has_128_batches_at_most() -> None:
    """And tells which was the first too many, also in a file."""
    numbers = list(range(300))
    random.Random(0).shuffle(numbers)
    made = BatchSample()
    for number in numbers:
        made = made.with_batch(f"{number:03d}", [torch.full((9,), float(number))])
    assert [batch.digest for batch in made.batches] == [f"{number:03d}" for number in range(128)]
    assert made.cut == "128"
    assert [float(batch.leaves[0][0]) for batch in made.batches] == [float(number) for number in range(128)]
