"""Operators that move values and make none."""

from __future__ import annotations

import pytest
from plain_calls import ENTRIES, plain_call

from quanthost.catalogue import Entry


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.moves], ids=lambda entry: entry.name)
def test_what_moves_makes_no_values(entry: Entry) -> None:
    """Each value of the result is one of the operands' or zero."""
    module, inputs = plain_call(entry)
    made = module(*inputs)
    given = {0.0, *(float(v) for x in inputs if x.is_floating_point() for v in x.reshape(-1))}

    for leaf in made if isinstance(made, tuple) else (made,):
        if leaf.is_floating_point():
            assert {float(v) for v in leaf.reshape(-1)} <= given
