"""Sizes at which rows are timed."""

from __future__ import annotations

from quanthost.catalogue import examples_of
from quanthost.graph.pattern import op
from quanthost.graph.table import Row
from quanthost.values import Kernel, Role

CONV = op("conv2d", input="input", weight="weight", bias="bias?")
ROLES = {"weight": Role.WEIGHT, "bias": Role.BIAS}


def test_a_row_runs_at_each_size() -> None:
    """A fused row has the sizes of its innermost operator."""
    plain = Row(name="conv", pattern=CONV, kernels={Kernel.STATIC}, roles=ROLES)
    fused = Row(name="conv_relu", pattern=op("relu", self=CONV), kernels={Kernel.STATIC}, roles=ROLES)
    sizes = [tuple(example.inputs[0].shape) for example in examples_of(plain)]

    assert len(sizes) > 2
    assert [tuple(example.inputs[0].shape) for example in examples_of(fused)] == sizes
    smallest = min(examples_of(fused), key=lambda example: example.inputs[0].numel())
    assert float(smallest.module(*smallest.inputs).min()) >= 0.0


def test_an_unknown_operator_has_none() -> None:
    """The catalogue lacks it."""
    row = Row(name="erfinv", pattern=op("erfinv", self="input"), kernels={Kernel.STATIC})

    assert list(examples_of(row)) == []
