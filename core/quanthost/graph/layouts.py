"""Gives tensors the standard layout in memory, and removes requests for others from a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument, overload
from quanthost.graph.view import tensor_meta

__all__ = ["forget_layouts", "in_standard_layout"]


def in_standard_layout(tensor: torch.Tensor) -> torch.Tensor:
    """The same values with the strides of a new tensor of that shape; in the same memory if they are there.

    ``Tensor.contiguous`` is not enough: it keeps whatever strides dimensions of size 1 have, as those of a
    permuted grey picture, or 0 where numpy added the dimension. ExecuTorch reads the order of dimensions
    from strides.
    """
    if tensor.layout is not torch.strided:
        return tensor
    strides = torch.empty(tensor.shape, device="meta").stride()
    if tensor.stride() == strides:
        return tensor
    if tensor.is_contiguous():
        return tensor.as_strided(tensor.shape, strides)
    return tensor.contiguous()


def forget_layouts(graph_module: fx.GraphModule) -> None:
    """Remove, in place in the graph, each request for an order of dimensions in memory.

    A program's tensors are contiguous, weights too, so that such a request has no effect on values. A view
    of memory in that order becomes a reshape, which copies if necessary.
    """
    for node in list(graph_module.graph.nodes):
        if node.op == "get_attr":
            _standardize(graph_module, str(node.target))
        if node.op != "call_function":
            continue
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
        if argument(node, "non_blocking"):
            # of one device, which the runtime's kernels refuse
            _set(node, "non_blocking", False)
        requested = argument(node, "memory_format")
        if requested is torch.preserve_format:
            # the kernel of _to_copy refuses it where it is written out
            _without(node, "memory_format")
        if requested in (None, torch.preserve_format):
            continue
        source = node.args[0] if node.args else None
        if _only_moves(node, source):
            node.replace_all_uses_with(source)
            graph_module.graph.erase_node(node)
        else:
            _without(node, "memory_format")
    graph_module.recompile()


def _standardize(graph_module: fx.GraphModule, path: str) -> None:
    owner_path, _, name = path.rpartition(".")
    owner = graph_module.get_submodule(owner_path)
    tensor = getattr(owner, name)
    if not isinstance(tensor, torch.Tensor):
        return
    standard = in_standard_layout(tensor.detach())
    if standard.stride() == tensor.stride():
        return
    if isinstance(tensor, nn.Parameter):
        standard = nn.Parameter(standard, requires_grad=tensor.requires_grad)
    setattr(owner, name, standard)


def _only_moves(node: fx.Node, source: Any) -> bool:
    """Whether the values of a call, and their dtype, are those of its first argument."""
    if not isinstance(source, fx.Node) or not operator_facts(node).copies:
        return False
    before, after = tensor_meta(source), tensor_meta(node)
    return before is not None and after is not None and before.dtype == after.dtype


def _set(node: fx.Node, name: str, value: Any) -> None:
    op = overload(node)
    assert op is not None
    position = [parameter.name for parameter in op._schema.arguments].index(name)
    if name in node.kwargs or op._schema.arguments[position].kwarg_only:
        node.kwargs = {**node.kwargs, name: value}
    else:
        node.args = (*node.args[:position], value, *node.args[position + 1 :])


def _without(node: fx.Node, name: str) -> None:
    op = overload(node)
    assert op is not None
    position = [parameter.name for parameter in op._schema.arguments].index(name)
    node.args = node.args[:position]
    node.kwargs = {key: value for key, value in node.kwargs.items() if key != name}
