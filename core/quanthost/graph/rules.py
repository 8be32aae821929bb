"""Parts that the rewrites of several backends share: a rule for some operators, splits as slices."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import fx

from quanthost.graph.operators import argument, base_name, operator_name
from quanthost.graph.rewrite import Rewriter
from quanthost.graph.view import tensor_meta

__all__ = ["rewrite_each", "slice_parts"]

Rule: TypeAlias = Callable[[Rewriter, fx.Node], fx.Node | None]


def rewrite_each(*prefixes: str) -> Callable[[Rule], Callable[[fx.GraphModule], None]]:
    """Turn a rule for one node into a rewrite of a whole graph.

    The rule gets each call whose operator's name starts with one of ``prefixes`` (``"aten.split."``), with
    a ``Rewriter`` at its place. It returns the node that replaces the call, or ``None`` to leave it.
    """

    def wrap(rule: Rule) -> Callable[[fx.GraphModule], None]:
        def rewrite(graph_module: fx.GraphModule) -> None:
            for node in list(graph_module.graph.nodes):
                if node.op != "call_function" or not operator_name(node).startswith(prefixes):
                    continue
                rewriter = Rewriter(graph_module, node)
                replacement = rule(rewriter, node)
                if replacement is not None:
                    rewriter.replace_with(replacement)

        rewrite.__name__ = rule.__name__
        rewrite.__doc__ = rule.__doc__
        return rewrite

    return wrap


def slice_parts(rewriter: Rewriter, node: fx.Node) -> None:
    """Replace each part of a split, chunk or unbind that is read by a slice of the source.

    ``unbind`` drops the dimension as well. Nothing changes where the size of a part is not known, or
    something reads the parts all together.
    """
    source, parts, readers = argument(node, "self"), node.meta.get("val"), list(node.users)
    meta = tensor_meta(source)
    if meta is None or not isinstance(parts, (tuple, list)):
        return
    if any(reader.target is not operator.getitem for reader in readers):
        return
    dim, unbinds = argument(node, "dim", 0) % meta.dim(), base_name(node) == "unbind"
    ends = [0]
    for part in parts:
        size = 1 if unbinds else part.shape[dim]
        if not isinstance(size, int):
            return
        ends.append(ends[-1] + size)
    for reader in readers:
        number: int = reader.args[1]
        at_reader = Rewriter(rewriter.graph_module, reader)
        part = at_reader.call(torch.ops.aten.slice.Tensor, source, dim, ends[number], ends[number + 1])
        if unbinds:
            part = at_reader.call(torch.ops.aten.reshape.default, part, list(parts[number].shape))
        at_reader.replace_with(part)
