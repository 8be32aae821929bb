"""Plans the outputs of a program: the leaves that it computes, and those that the host adds when it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.fx.graph import CodeGen
from torch.utils import _pytree as pytree

from quanthost.graph.view import tensor_meta
from quanthost.values import LeafSource, OutputLeaf

__all__ = ["assemble", "plan_outputs"]


def plan_outputs(graph_module: fx.GraphModule) -> tuple[OutputLeaf, ...]:
    """Reduce the graph's outputs, in place, to distinct tensors that it computes.

    The program returns each tensor once. It does not return inputs that are passed through, ``None`` or
    other constants, since delegates refuse them; where nothing is computed, a copy of the first input that is
    passed through is. The plan says how to rebuild the model's structure. The graph then takes and returns
    its leaves flat.
    """
    graph = graph_module.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    result = graph.output_node()
    computed: dict[fx.Node, int] = {}
    leaves = []
    results = pytree.tree_leaves(result.args[0], is_leaf=lambda value: value is None)
    copied = _input_to_copy(results, inputs)
    for leaf in results:
        if not isinstance(leaf, fx.Node):
            leaves.append(OutputLeaf(source=LeafSource.CONSTANT, value=leaf))
        elif leaf in inputs and leaf is not copied:
            leaves.append(OutputLeaf(source=LeafSource.INPUT, index=inputs.index(leaf)))
        else:
            number = computed.setdefault(leaf, len(computed))
            leaves.append(OutputLeaf(source=LeafSource.PROGRAM, index=number))
    result.args = (tuple(_computed_node(graph_module, leaf, result) for leaf in computed),)
    graph.set_codegen(CodeGen())
    graph_module.recompile()
    return tuple(leaves)


def _input_to_copy(results: list[Any], inputs: list[fx.Node]) -> fx.Node | None:
    """The first tensor among the inputs that are results, if no result is computed."""
    nodes = [leaf for leaf in results if isinstance(leaf, fx.Node)]
    if any(node not in inputs for node in nodes):
        return None
    return next((node for node in nodes if tensor_meta(node) is not None), None)


def _computed_node(graph_module: fx.GraphModule, leaf: fx.Node, result: fx.Node) -> fx.Node:
    """The leaf, or a copy of an input, weight or constant: a program returns only what it computes."""
    if leaf.op not in ("get_attr", "placeholder"):
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
