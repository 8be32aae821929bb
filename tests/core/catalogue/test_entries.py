"""Variations of an operator."""

from __future__ import annotations

import pytest
from plain_calls import ENTRIES

from quanthost.catalogue import Entry, Operand


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_variations_have_names_of_their_own(entry: Entry) -> None:
    """Two of one name would be one case."""
    names = [variation.name for variation in entry.variations()]
    assert len(names) == len(set(names))


def test_variations_change_one_thing() -> None:
    """Plain first; then what is listed, ranks, batches, layouts, and sizes that vary."""
    entry = Entry(
        name="relu.default", plain={"self": Operand((2, 3))}, changes={"wide": {"self": Operand((2, 9))}},
        batched=("self",), any_rank=("self",),
    )  # fmt: skip
    found = {each.name: each for each in entry.variations()}

    assert next(iter(found)) == "plain"
    assert found["wide"].arguments["self"].shape == (2, 9)
    assert found["rank=0"].arguments["self"].shape == ()
    assert found["batch=0"].arguments["self"].shape == (0, 3)
    assert found["transposed"].arguments["self"].layout == "transposed"
    assert found["dynamic_batch"].dynamic == {"self": (0,)}
    assert found["output_read_twice"].readers == "output"
    assert entry.variation("wide") == found["wide"]
