"""The program that calibration runs for each batch: the observed graph, and nothing that shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType

import torch
from torch import fx

from quanthost.graph.operators import argument, operator_name
from quanthost.graph.rewrite import Rewriter
from quanthost.graph.view import constant, tensor_meta
from quanthost.stages.observing import observer_of

__all__ = ["collecting"]

# operators of which each result is one of the values that they read
_SELECTING = frozenset(
    (
        *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "squeeze", "unsqueeze"),
        *("expand", "contiguous", "clone", "alias", "slice", "select", "narrow", "max_pool1d", "max_pool2d"),
    )
)
_CONVOLUTIONS = frozenset(("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default"))


def collecting(module: fx.GraphModule) -> Callable[..., object]:
    """A function of the flat inputs that lets the module's observers of data see one batch.

    Straight code: observers are called without the ways of a module, those of constants and of what
    ranges at run time are left out, and so is whatever no observer needs. Where tensors share an observer
    it looks at what a reshape or a maximum pooling reads, not at what it gives, since those are the
    same values again.
    """
    made = fx.GraphModule(module, _copy(module))
    for node in list(made.graph.nodes):
        _scale_channels(made, node)
    made.graph.eliminate_dead_code(is_impure_node=_does_something)
    made.recompile()
    forward: Callable[..., object] = made.forward
    return forward


def _copy(module: fx.GraphModule) -> fx.Graph:
    """The graph with calls of the statistics in place of observers, and without its outputs."""
    copies: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    for node in module.graph.nodes:
        observer = observer_of(module, node)
        if observer is not None:
            copies[node] = copies[node.args[0]]
            if observer.is_of_data and not _repeats(module, node):
                graph.call_function(observer.taking(), (copies[node],))
        elif node.op != "output":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(None)
    return graph


def _repeats(module: fx.GraphModule, node: fx.Node) -> bool:
    tensor = node.args[0]
    if not isinstance(tensor, fx.Node) or tensor.op != "call_function" or not tensor.args:
        return False
    before = tensor.args[0]
    if not isinstance(before, fx.Node) or observer_of(module, before) is not observer_of(module, node):
        return False
    parts = operator_name(tensor).split(".")
    return parts[0] == "aten" and parts[1] in _SELECTING


def _scale_channels(module: fx.GraphModule, node: fx.Node) -> None:
    """A convolution of each channel with one number, as batch norms become, by torch's batch norm.

    Torch calls as many convolutions as there are channels, and takes a hundred times as long.
    """
    if operator_name(node) not in _CONVOLUTIONS:
        return
    weight, bias = (constant(module, argument(node, name)) for name in ("weight", "bias"))
    if weight is None or bias is None or weight.numel() != argument(node, "groups"):
        return
    source = tensor_meta(argument(node, "input"))
    # a tensor without batches has its channels elsewhere
    if source is None or source.dim() != weight.dim():
        return
    if any(step != 1 for step in argument(node, "stride")) or any(argument(node, "padding")):
        return
    rewriter = Rewriter(module, node)
    scale, zero, one = weight.detach().reshape(-1), torch.zeros_like(bias), torch.ones_like(bias)
    scaled = (rewriter.constant(value, "_collecting") for value in (scale, bias.detach(), zero, one))
    norm = torch.ops.aten.batch_norm.default
    rewriter.replace_with(rewriter.call(norm, argument(node, "input"), *scaled, False, 0.0, 0.0, False))


def _does_something(node: fx.Node) -> bool:
    return bool(node.is_impure()) or isinstance(node.target, MethodType)
