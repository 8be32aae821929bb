"""Plans the outputs of a program: the leaves that it computes, and those that the host adds when it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.fx.graph import CodeGen
from torch.utils import _pytree as pytree

from quanthost.values import LeafSource, OutputLeaf

__all__ = ["assemble", "plan_outputs"]


def plan_outputs(graph_module: fx.GraphModule) -> tuple[OutputLeaf, ...]:
    """Reduce the graph's outputs, in place, to distinct tensors that it computes.

    The program returns each tensor once. It does not return inputs that are passed through, ``None`` or
    other constants, since delegates refuse them. The plan says how to rebuild the model's structure. The
    graph then takes and returns its leaves flat.
    """
    graph = graph_module.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    result = graph.output_node()
    computed: dict[fx.Node, int] = {}
    leaves = []
    for leaf in pytree.tree_leaves(result.args[0], is_leaf=lambda value: value is None):
        if not isinstance(leaf, fx.Node):
            leaves.append(OutputLeaf(source=LeafSource.CONSTANT, value=leaf))
        elif leaf in inputs:
            leaves.append(OutputLeaf(source=LeafSource.INPUT, index=inputs.index(leaf)))
        else:
            number = computed.setdefault(leaf, len(computed))
            leaves.append(OutputLeaf(source=LeafSource.PROGRAM, index=number))
    result.args = (tuple(_computed_node(graph_module, leaf, result) for leaf in computed),)
    graph.set_codegen(CodeGen())
    graph_module.recompile()
    return tuple(leaves)


def _computed_node(graph_module: fx.GraphModule, leaf: fx.Node, result: fx.Node) -> fx.Node:
    """The leaf, or a copy of a weight or constant: a program returns only what it computes."""
    if leaf.op != "get_attr":
        return leaf
    with graph_module.graph.inserting_before(result):
        return graph_module.graph.call_function(torch.ops.aten.clone.default, (leaf,))


def assemble(
    plan: tuple[OutputLeaf, ...], outputs: list[torch.Tensor], inputs: list[torch.Tensor]
) -> list[Any]:
    """The flat leaves of the model's result from a program's outputs and inputs."""
    values = {LeafSource.PROGRAM: outputs, LeafSource.INPUT: inputs}
    return [
        leaf.value if leaf.source is LeafSource.CONSTANT else values[leaf.source][leaf.index] for leaf in plan
    ]
