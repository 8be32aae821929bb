"""The program that calibration runs for each batch: the observed graph, pruned to what observers need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import fx

from quanthost.arith.sketch import SAMPLE_SIZE
from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument
from quanthost.graph.rewrite import Rewriter
from quanthost.graph.view import constant, tensor_meta
from quanthost.graph.work import multiplications
from quanthost.stages.calibrating.observing import observer_of
from quanthost.toolchain.observers import RangeObserver

__all__ = ["collecting", "density"]

# each receives the tensors of one observer
_Takers = Sequence[Callable[[torch.Tensor], None]]

# so many multiplications take ten times as long as counting one value
_FOR_A_VALUE = 1024


def collecting(module: fx.GraphModule, observers: Sequence[RangeObserver]) -> Callable[..., object]:
    """A function whose arguments are a taker for each observer, in their order, and the flat inputs.

    The function calls each taker with the tensors of its observer. It calls no observer modules, and it
    leaves out observers of constants, of dynamic ranges, and whatever no observer needs. If the operand and
    the result of a reshape or a maximum pool share an observer, only the operand is observed, since the
    result has the same values. The function has no state, so that several threads may call it at once.
    """
    program = fx.GraphModule(module, _copy(module, observers))
    for node in list(program.graph.nodes):
        _scale_channels(program, node)
    program.graph.eliminate_dead_code(is_impure_node=_does_something)
    program.recompile()
    forward: Callable[..., object] = program.forward
    return forward


def density(module: fx.GraphModule, observers: Sequence[RangeObserver]) -> float:
    """The density with which sketches sample, see ``RangeSketch.update``.

    One value per 1,024 multiplications of the graph, so that counting takes a tenth of the time of
    computing. It depends only on the graph, so that all shares of the data are sampled in the same way.
    """

    def tensor_of(node: object) -> torch.Tensor | None:
        while isinstance(node, fx.Node) and observer_of(module, node) is not None:
            node = node.args[0]
        tensor = constant(module, node)
        return tensor_meta(node) if tensor is None and isinstance(node, fx.Node) else tensor

    total = sum(multiplications(node, tensor_of) for node in module.graph.nodes)
    return max(1.0, total / _FOR_A_VALUE / max(len(observers), 1) / SAMPLE_SIZE)


def _copy(module: fx.GraphModule, observers: Sequence[RangeObserver]) -> fx.Graph:
    """The graph with calls of the takers in place of observers, and without its outputs."""
    numbers = {observer: number for number, observer in enumerate(observers)}
    copies: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    takers = graph.placeholder("takers")
    for node in module.graph.nodes:
        observer = observer_of(module, node)
        if observer is not None:
            copies[node] = copies[node.args[0]]
            if observer in numbers and not _repeats(module, node):
                graph.call_function(_take, (takers, numbers[observer], copies[node]))
        elif node.op != "output":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(None)
    return graph


def _take(takers: _Takers, number: int, tensor: torch.Tensor) -> None:
    takers[number](tensor)


def _repeats(module: fx.GraphModule, node: fx.Node) -> bool:
    tensor = node.args[0]
    if not isinstance(tensor, fx.Node) or tensor.op != "call_function" or not tensor.args:
        return False
    before = tensor.args[0]
    if not isinstance(before, fx.Node) or observer_of(module, before) is not observer_of(module, node):
        return False
    return operator_facts(tensor).observed_before


def _scale_channels(module: fx.GraphModule, node: fx.Node) -> None:
    """Replace a convolution that scales each channel by one number, as batch norms become, by a batch norm.

    Torch would call as many convolutions as there are channels, and take a hundred times as long.
    """
    if not operator_facts(node).is_convolution or operator_facts(node).weight_axis != 0:
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
    return bool(node.is_impure()) or node.target is _take
