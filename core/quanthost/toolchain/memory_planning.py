"""Memory planning that gives every tensor the standard order of dimensions, as kernels write it."""

from __future__ import annotations

import dataclasses
from typing import Any

from executorch.exir import ExecutorchBackendConfig
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.tensor import TensorSpec, contiguous_stride_from_shape
from torch import fx
from torch.fx.passes.infra.pass_base import PassResult

from quanthost.graph.operators import base_name

__all__ = ["in_standard_order"]


def in_standard_order(config: ExecutorchBackendConfig) -> ExecutorchBackendConfig:
    """The configuration with such a planning; a planning of the backend's own class is left as it is."""
    planner = config.memory_planning_pass
    if type(planner) is not MemoryPlanningPass:
        return config
    planning = _StandardOrderPlanning()
    planning.__dict__.update(vars(planner))
    return dataclasses.replace(config, memory_planning_pass=planning)


class _StandardOrderPlanning(MemoryPlanningPass):  # type: ignore[misc]  # ExecuTorch is untyped
    """``MemoryPlanningPass`` for results that eager torch transposes and the runtime's kernels do not.

    torch computes the indices of ``nonzero`` column by column and returns them transposed, and what is
    computed from them likewise. ExecuTorch's kernel (kernels/portable/cpu/op_nonzero.cpp) writes them row by
    row, whatever the planned order is.
    """

    def run(self, graph_module: fx.GraphModule, graph_signature: Any = None) -> PassResult:
        transposed: set[fx.Node] = set()
        for node in graph_module.graph.nodes:
            if base_name(node) == "nonzero" or not transposed.isdisjoint(node.all_input_nodes):
                transposed.add(node)
                _put_in_order(node.meta.get("spec"))
        return super().run(graph_module, graph_signature)


def _put_in_order(spec: object) -> None:
    if isinstance(spec, TensorSpec):
        spec.stride = contiguous_stride_from_shape(spec.shape)
        spec.dim_order = tuple(range(len(spec.shape)))
