"""Leaves of a signature: what each accepts, and the way to data and back."""

from __future__ import annotations

import pytest
import torch
from sample_graphs import ROW, program_of

from quanthost.errors import InputError
from quanthost.graph.leaves import (
    ConstantSpec,
    DynamicDim,
    SizeSpec,
    TensorSpec,
    leaf_from_data,
    leaf_specs,
    leaf_to_data,
)

BATCH = DynamicDim(symbol="d0", minimum=2, maximum=8)
LEAVES = [
    TensorSpec(name="x", dims=(BATCH, 4), dtype=torch.float32),
    SizeSpec(name="n", size=BATCH),
    ConstantSpec(name="flag", value=True),
]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.name)
def test_data_and_back(leaf: TensorSpec | SizeSpec | ConstantSpec) -> None:
    """Plain data gives an equal leaf."""
    assert leaf_from_data(leaf_to_data(leaf)) == leaf


@pytest.mark.parametrize(
    ("leaf", "value", "seen"),
    [
        (LEAVES[0], torch.zeros(2, 3), r"float32\[2, 3\]"),
        (LEAVES[0], torch.zeros(2, 4, dtype=torch.int8), "int8"),
        (LEAVES[0], torch.zeros(9, 4), "dimension 0 of here is 9"),
        (LEAVES[0], [1.0], "of type list"),
        (LEAVES[1], True, "here is True"),
        (LEAVES[2], 1, "here is 1"),
    ],
    ids=["shape", "dtype", "size", "no tensor", "no number", "another constant"],
)
def test_what_is_refused(leaf: TensorSpec | SizeSpec | ConstantSpec, value: object, seen: str) -> None:
    """The error says what was seen."""
    with pytest.raises(InputError, match=seen):
        leaf.check(value, "here", {})


def test_equal_sizes() -> None:
    """Two dimensions of one symbol must agree within a call."""
    sizes: dict[str, tuple[int, str]] = {}
    BATCH.check(3, "first", "x", sizes)
    BATCH.check(3, "again", "x", sizes)
    with pytest.raises(InputError, match="second is 4, but first is 3"):
        BATCH.check(4, "second", "x", sizes)


def test_leaves_of_a_program() -> None:
    """A dynamic dimension has its range, a result that follows from it a formula."""
    exported = program_of(
        lambda x: torch.cat([x, x]), ROW, dynamic=({0: torch.export.Dim("n", min=2, max=8)},)
    )
    (given,), (result,) = leaf_specs(exported, ["x"], ["y"])

    assert given == LEAVES[0]
    assert isinstance(result, TensorSpec)
    assert result.dims[0] == DynamicDim(symbol="2*d0", minimum=4, maximum=16)
