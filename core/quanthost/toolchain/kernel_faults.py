"""Calls for which a kernel of the ExecuTorch runtime is known to be wrong, or to end the process."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from quanthost.graph.operators import base_name, operator_name
from quanthost.graph.view import tensor_meta

__all__ = ["find_faults"]


def _computes_integers(node: fx.Node) -> bool:
    meta = tensor_meta(node)
    return meta is not None and not meta.dtype.is_floating_point


def _reads_scalar(node: fx.Node) -> bool:
    """Whether the operand is a tensor without dimensions."""
    operand = tensor_meta(node.args[0]) if isinstance(node.args[0], fx.Node) else None
    return operand is not None and len(operand.shape) == 0


def _reduces_scalar(node: fx.Node) -> bool:
    return _reads_scalar(node) and len(node.args) > 1 and bool(node.args[1])


def _always(node: fx.Node) -> bool:
    del node
    return True


_ENDS = "ends the process for a tensor without dimensions"
# by operator: in which calls, and what happens; tests/core/toolchain/test_kernel_faults.py shows each
_FAULTS: dict[str, tuple[Callable[[fx.Node], bool], str]] = {
    "remainder": (_computes_integers, "gives the remainder of integers the sign of the dividend"),
    "sum": (_reduces_scalar, _ENDS),
    "unfold": (_reads_scalar, _ENDS),
    "max_pool2d_with_indices_backward": (_always, "adds to what is in memory"),
}


def find_faults(graph_module: fx.GraphModule) -> tuple[tuple[str, str], ...]:
    """The operators of a graph in the edge dialect that are called like that, with what happens.

    The graphs of branches and loops are looked through too, those of delegates are not.
    """
    found = []
    for module in graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            in_which, fault = _FAULTS.get(base_name(node), (None, ""))
            if in_which is not None and in_which(node):
                found.append((operator_name(node), fault))
    return tuple(found)
