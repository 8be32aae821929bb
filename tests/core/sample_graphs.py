"""Small captured graphs: a module or function traced as the host traces models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from quanthost.graph.operators import name_matches, operator_name

IMAGE = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)
ROW = torch.linspace(-1, 1, 8).reshape(2, 4)


class Function(nn.Module):  # type: ignore[misc]  # torch is not typed
    """A module whose forward is a function of tensors."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def program_of(
    model: nn.Module | Callable[..., Any], *inputs: torch.Tensor, dynamic: Any = None
) -> ExportedProgram:
    """The program of a module in evaluation mode, or a function; ``dynamic`` has a shape for each input."""
    if isinstance(model, nn.Module):
        module, shapes = model.eval(), dynamic
    else:
        module, shapes = Function(model), None if dynamic is None else (dynamic,)
    # one tensor given twice would be one input twice
    apart = tuple(tensor.clone() for tensor in inputs)
    with torch.no_grad():
        return torch.export.export(module, apart, dynamic_shapes=shapes, strict=False)


def graph_of(
    model: nn.Module | Callable[..., Any], *inputs: torch.Tensor, dynamic: Any = None
) -> fx.GraphModule:
    """The same with weights as attributes."""
    made = program_of(model, *inputs, dynamic=dynamic).module(check_guards=False)
    assert isinstance(made, fx.GraphModule)
    return made


def nodes_of(graph_module: fx.GraphModule, operator: str) -> list[fx.Node]:
    """The nodes that call an operator, in graph order."""
    calls = [node for node in graph_module.graph.nodes if node.op == "call_function"]
    return [node for node in calls if name_matches(operator, operator_name(node))]


def node_of(graph_module: fx.GraphModule, operator: str) -> fx.Node:
    """The only node that calls an operator."""
    (node,) = nodes_of(graph_module, operator)
    return node
