"""Modules whose forward is a pattern."""

from __future__ import annotations

from quanthost.catalogue import entries_of, module_of
from quanthost.graph.pattern import op
from quanthost.values import Role


def test_a_pattern_of_several() -> None:
    """Outer operands have the inner result's shape; a capture that stands twice is one input."""
    pattern = op("add.Tensor", self=op("conv2d", input="input", weight="weight", bias="bias?"), other="other")
    module = module_of(pattern, entries_of("conv2d")[0].variation("plain"), {"weight": Role.WEIGHT})
    swish = op("mul.Tensor", self="x", other=op("sigmoid", self="x"))

    assert module.inputs[-1].shape == module(*module.inputs).shape
    assert len(module_of(swish, entries_of("sigmoid")[0].variation("plain"), {}).inputs) == 1
