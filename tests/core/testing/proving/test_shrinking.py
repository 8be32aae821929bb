"""Shrinking halves dimensions as long as the sample fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from toy_backends import ROWS

from quanthost.testing.cases.samples import Sample, build_row_samples
from quanthost.testing.proving.case import Case, CaseFailure
from quanthost.testing.proving.shrinking import describe_smallest, shrink_sample

RELU = next(build_row_samples(ROWS[1]))
CASE = Case(id="table/single/relu/int8", subject="relu", must="be right", judge=lambda: None)


def test_smallest_sample() -> None:
    """Each dimension becomes 1 if the sample always fails, and none changes if it never does."""
    smallest = shrink_sample(RELU, lambda _: True, tries=50)

    assert set(smallest.inputs[0].shape) == {1}
    assert smallest.inputs[0].dim() == RELU.inputs[0].dim()
    assert shrink_sample(RELU, lambda _: False) is RELU


def test_what_still_fails() -> None:
    """The smallest sample is one that fails."""
    smallest = shrink_sample(RELU, lambda sample: sample.inputs[0].numel() >= 4, tries=50)

    assert 4 <= smallest.inputs[0].numel() < RELU.inputs[0].numel()


def test_a_module_without_pattern() -> None:
    """A chain stays as it is."""
    chain = Sample(name="chain", module=nn.ReLU(), inputs=(torch.zeros(8),))

    assert shrink_sample(chain, lambda _: True) is chain


def test_the_text() -> None:
    """Inputs and graph of the sample; nothing if a failure has none."""
    subject: Any = SimpleNamespace()
    text = describe_smallest(subject, CASE, CaseFailure(message="wrong", sample=RELU, recipe="int8"))

    assert text.startswith(f"inputs: float32 {list(RELU.inputs[0].shape)}\n")
    assert "aten.relu.default" in text
    assert describe_smallest(subject, CASE, CaseFailure(message="wrong")) == ""
