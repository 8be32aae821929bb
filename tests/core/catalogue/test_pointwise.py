"""Functions whose results have bounds."""

from __future__ import annotations

import pytest
from plain_calls import ENTRIES, plain_call

from quanthost.catalogue import Entry


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.result_range], ids=lambda entry: entry.name)
def test_result_ranges(entry: Entry) -> None:
    """The result lies between the bounds, and comes near one of them."""
    module, inputs = plain_call(entry)
    low, high = entry.result_range or (0.0, 0.0)
    made = module(*inputs)

    assert low <= float(made.min())
    assert float(made.max()) <= high
    assert min(float(made.min()) - low, high - float(made.max())) < 0.3
