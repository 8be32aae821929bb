"""Hardswish in its written-out forms, which become the one operator that the delegate has a kernel for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quanthost.api import Binding, Op, Rewriter, bind, op

if TYPE_CHECKING:
    from torch.fx import GraphModule

__all__ = ["written_out_hardswish"]

_SHIFTED = op("add.Tensor", self="x", other=3)
# min(max(x + 3, 0), 6)
_CLIPPED = (
    op("relu6", self=_SHIFTED),
    op("hardtanh", self=_SHIFTED, min_val=0, max_val=6),
    op("clamp", self=_SHIFTED, min=0, max=6),
)


def _sixth(of: Op) -> tuple[Op, ...]:
    return op("div.Tensor", self=of, other=6), op("mul.Tensor", self=of, other=1 / 6)


def _times(gate: Op) -> Op:
    return op("mul.Tensor", commutative=True, self="x", other=gate)


_FORMS = (
    *(form for clipped in _CLIPPED for form in _sixth(_times(clipped))),
    *(_times(gate) for clipped in _CLIPPED for gate in _sixth(clipped)),
    _times(op("hardsigmoid", self="x")),
)


def written_out_hardswish(graph_module: GraphModule) -> None:
    """x · min(max(x + 3, 0), 6) / 6, in whichever order it is written, becomes ``hardswish(x)``."""
    for node in list(graph_module.graph.nodes):
        found = (bind(form, node) for form in _FORMS)
        binding = next((made for made in found if isinstance(made, Binding)), None)
        if binding is not None:
            rewriter = Rewriter(graph_module, node)
            rewriter.replace_with(rewriter.call(torch.ops.aten.hardswish.default, binding.captures["x"]))
