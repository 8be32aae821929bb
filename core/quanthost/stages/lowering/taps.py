"""Intermediate integers of a converted graph: the results of quantized operators, by captured node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.graph import CodeGen

from quanthost.graph.view import constant, is_quantize
from quanthost.graph.walk import walk
from quanthost.integer.sites import site_of

__all__ = ["run_tapped", "tap"]


def _integer_nodes(module: fx.GraphModule) -> dict[str, fx.Node]:
    """The node that computes the integers of each captured node; the first if there are several."""
    nodes: dict[str, fx.Node] = {}
    for node in module.graph.nodes:
        name = site_of(node)
        if name is not None and constant(module, node.args[0] if is_quantize(node) else None) is None:
            nodes.setdefault(name, node)
    return nodes


def tap(module: fx.GraphModule) -> tuple[str, ...]:
    """Make a graph return its intermediate integers after its results; returns their names in that order.

    A result of the graph is not returned twice, and has no name here.
    """
    result = module.graph.output_node()
    returned = set(result.all_input_nodes)
    taps = {name: node for name, node in _integer_nodes(module).items() if node not in returned}
    result.args = ((*result.args[0], *taps.values()),)
    module.graph.set_codegen(CodeGen())
    module.recompile()
    return tuple(taps)


def run_tapped(module: fx.GraphModule, inputs: Sequence[Any]) -> tuple[list[Any], dict[str, Tensor]]:
    """The flat outputs of one call with flat inputs, and the intermediate integers in execution order."""
    names = {node: name for name, node in _integer_nodes(module).items()}
    integers: dict[str, Tensor] = {}

    def visit(node: fx.Node, results: list[Any]) -> list[Any]:
        if node in names:
            integers[names[node]] = results[0]
        return results

    with torch.no_grad():
        outputs = walk(
            module, [inputs], visit, called=lambda node, args: module.get_submodule(str(node.target))(*args)
        )
    return outputs[0], integers
