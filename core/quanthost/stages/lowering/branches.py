"""Copies what branches and loops return: ExecuTorch plans the same memory for each of them.

``cond``, ``while_loop``, ``map`` and ``scan`` run graphs of their own. ExecuTorch (1.4 to 1.5) places the
tensors of all of them, results too, from the same offset on, so that the second overwrites results of the
first that are read later.
"""

from __future__ import annotations

import operator

import torch
from torch import fx

from quanthost.graph.operators import control_flow
from quanthost.graph.view import attribute
from quanthost.toolchain.copies import copy_graph

__all__ = ["copy_branch_results"]


def copy_branch_results(module: fx.GraphModule) -> None:
    """Copy, in place in the graph, each result of a branch or loop, also within branches and loops."""
    for node in list(module.graph.nodes):
        if node.op == "get_attr" and isinstance(branch := attribute(module, node), fx.GraphModule):
            own = copy_graph(branch)
            copy_branch_results(own)
            module.set_submodule(str(node.target), own)
        if control_flow(node) is None:
            continue
        for result in list(node.users):
            if result.target is operator.getitem:
                _copy(module.graph, result)
    module.recompile()


def _copy(graph: fx.Graph, result: fx.Node) -> None:
    with graph.inserting_after(result):
        copied = graph.call_function(torch.ops.aten.clone.default, (result,))
    copied.meta = dict(result.meta)
    result.replace_all_uses_with(copied, delete_user_cb=lambda user: user is not copied)
