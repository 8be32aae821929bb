"""Turns written-out hardswish and hardsigmoid into one operator each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quanthost.api import Binding, Op, Rewriter, bind, op

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.fx import GraphModule

__all__ = ["written_out_hardsigmoid", "written_out_hardswish"]

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


_SIGMOIDS = tuple(gate for clipped in _CLIPPED for gate in _sixth(clipped))
_SWISHES = (
    *(form for clipped in _CLIPPED for form in _sixth(_times(clipped))),
    *(_times(gate) for gate in _SIGMOIDS),
    _times(op("hardsigmoid", self="x")),
)


def written_out_hardswish(graph_module: GraphModule) -> None:
    """x · min(max(x + 3, 0), 6) / 6, in whichever order it is written, becomes ``hardswish(x)``."""
    _replace(graph_module, _SWISHES, torch.ops.aten.hardswish.default)


def written_out_hardsigmoid(graph_module: GraphModule) -> None:
    """min(max(x + 3, 0), 6) / 6 that multiplies another tensor than x becomes ``hardsigmoid(x)``."""
    _replace(graph_module, _SIGMOIDS, torch.ops.aten.hardsigmoid.default)


def _replace(graph_module: GraphModule, forms: Sequence[Op], target: Callable[..., object]) -> None:
    for node in list(graph_module.graph.nodes):
        results = (bind(form, node) for form in forms)
        binding = next((result for result in results if isinstance(result, Binding)), None)
        if binding is not None:
            rewriter = Rewriter(graph_module, node)
            rewriter.replace_with(rewriter.call(target, binding.captures["x"]))
    # the replaced parts would count as readers of x
    graph_module.graph.eliminate_dead_code()
