"""Intermediate integers: the results of quantized operators, by the captured node's name."""

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


def _sites(module: fx.GraphModule) -> dict[str, fx.Node]:
    """The node that makes the integers of each place, the first where a place has several."""
    found: dict[str, fx.Node] = {}
    for node in module.graph.nodes:
        name = site_of(node)
        if name is not None and constant(module, node.args[0] if is_quantize(node) else None) is None:
            found.setdefault(name, node)
    return found


def tap(module: fx.GraphModule) -> tuple[str, ...]:
    """Let a graph also return its intermediate integers, after its results; their names in that order.

    What the graph returns anyway is not returned twice, and has no name here.
    """
    result = module.graph.output_node()
    returned = set(result.all_input_nodes)
    sites = {name: node for name, node in _sites(module).items() if node not in returned}
    result.args = ((*result.args[0], *sites.values()),)
    module.graph.set_codegen(CodeGen())
    module.recompile()
    return tuple(sites)


def run_tapped(module: fx.GraphModule, inputs: Sequence[Any]) -> tuple[list[Any], dict[str, Tensor]]:
    """The flat outputs of one call with flat inputs, and the integers of each place as they are made."""
    names = {node: name for name, node in _sites(module).items()}
    found: dict[str, Tensor] = {}

    def visit(node: fx.Node, results: list[Any]) -> list[Any]:
        if node in names:
            found[names[node]] = results[0]
        return results

    with torch.no_grad():
        outputs = walk(
            module, [inputs], visit, called=lambda node, args: module.get_submodule(str(node.target))(*args)
        )
    return outputs[0], found
