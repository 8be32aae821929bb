"""Joined samples: the second reads the result of the first, if shape and values fit."""

from __future__ import annotations

import torch
from torch import nn
from toy_backends import ROWS

from quanthost.catalogue import CATALOGUE
from quanthost.testing.cases.joined import filter_joinable, join_samples
from quanthost.testing.cases.samples import Sample, build_operator_samples, build_row_samples

LINEAR, RELU = ROWS[0], ROWS[1]


def operator(name: str) -> list[Sample]:
    return list(build_operator_samples(CATALOGUE[name]))


def row(name: str) -> list[Sample]:
    return [sample for row in ROWS if row.name == name for sample in build_row_samples(row)]


def test_pair() -> None:
    """It has the first one's inputs and the second one's other ones, and computes both."""
    first, second = row("linear")[:1], row("relu")[:1]
    sample = join_samples(first, second)

    assert sample is not None
    assert len(sample.inputs) == len(first[0].inputs)
    wanted = torch.relu(first[0].module(*first[0].inputs))
    assert torch.equal(sample.module(*sample.inputs), wanted)


def test_shapes_that_do_not_fit() -> None:
    """A module with a shape of its own is not joined to another shape."""
    fixed = Sample(name="fixed", module=nn.Linear(5, 5), inputs=(torch.randn(2, 5),))

    assert join_samples(row("max_pool2d")[:1], [fixed]) is None


def test_values_that_do_not_fit() -> None:
    """No logarithm of negative numbers, which its own sample does not have."""
    negative = Sample(name="negative", module=nn.Identity(), inputs=(-torch.ones(3, 32),))

    assert join_samples([negative], operator("log.default")) is None


def test_joinable_samples() -> None:
    """Only float32 tensors with elements and fixed sizes."""
    samples = filter_joinable(RELU, row("relu"))
    variations = {sample.variation for sample in samples}

    assert "plain" in variations
    assert not variations & {"float64", "batch=0", "dynamic_batch", "input_read_twice"}
    assert filter_joinable(LINEAR, row("linear"))
