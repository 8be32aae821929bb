"""The whole catalogue: each operator runs, and is found by the names that patterns use."""

from __future__ import annotations

import pytest
import torch
from plain_calls import ENTRIES, plain_call

from quanthost.catalogue import Entry, entries_of, entry_of


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_it_runs(entry: Entry) -> None:
    """Plain arguments give the same finite values each time."""
    module, inputs = plain_call(entry)
    first, second = module(*inputs), plain_call(entry)[0](*inputs)
    leaves = first if isinstance(first, tuple) else (first,)

    assert all(bool(torch.isfinite(leaf.double()).all()) for leaf in leaves)
    assert all(torch.equal(a, b) for a, b in zip(leaves, second if isinstance(second, tuple) else (second,)))


def test_names_may_be_short() -> None:
    """A pattern leaves out namespace and overload; another overload of a listed operator is known as it."""
    assert [entry.name for entry in entries_of("conv2d")] == ["conv2d.default"]
    found = entry_of("aten.conv2d.default")
    assert found is not None
    assert entry_of("aten.conv2d.padding") == found
    assert entry_of("aten.no_such_operator.default") is None
