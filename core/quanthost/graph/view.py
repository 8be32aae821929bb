"""A read-only view of a graph: constants and their values, and shapes and dtypes of tensors."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from quanthost.graph.operators import arguments, operator_name, overload

__all__ = ["GraphView", "attribute", "constant", "is_dequantize", "is_quantize", "storage", "tensor_meta"]

_QUANTIZE = ("quantized_decomposed.quantize_", "torchao.quantize_")
_DEQUANTIZE = ("quantized_decomposed.dequantize_", "torchao.dequantize_")


def _is_named(node: object, prefixes: tuple[str, ...]) -> bool:
    return (
        isinstance(node, fx.Node) and node.op == "call_function" and operator_name(node).startswith(prefixes)
    )


def is_quantize(node: object) -> bool:
    """Whether the node turns float into integers: per tensor, channel, token or group, captured or edge."""
    return _is_named(node, _QUANTIZE)


def is_dequantize(node: object) -> bool:
    """Whether the node turns integers into float: per tensor, channel, token or group, captured or edge."""
    return _is_named(node, _DEQUANTIZE)


def tensor_meta(node: fx.Node) -> torch.Tensor | None:
    """The fake tensor that tracing left on a node, ``None`` if its result is no single tensor."""
    value = node.meta.get("val")
    return value if isinstance(value, torch.Tensor) else None


def storage(node: fx.Node) -> int | None:
    """Identity of the memory of a node's fake tensor; views have that of their base."""
    value = tensor_meta(node)
    # others than strided ones, as sparse tensors, have no memory of that kind
    return value.untyped_storage()._cdata if value is not None and value.layout is torch.strided else None


def constant(graph_module: fx.GraphModule, node: object) -> torch.Tensor | None:
    """The tensor that a ``get_attr`` node holds, ``None`` for any other node."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value = attribute(graph_module, node)
    return value if isinstance(value, torch.Tensor) else None


def attribute(graph_module: fx.GraphModule, node: fx.Node) -> Any:
    """What a ``get_attr`` node holds: a tensor, or the graph of a branch or loop; ``None`` if missing."""
    value: Any = graph_module
    for part in str(node.target).split("."):
        value = getattr(value, part, None)
    return value


class GraphView:
    """Constants and shapes of one graph, whether its weights are attributes or lifted inputs."""

    def __init__(self, graph_module: fx.GraphModule, exported: ExportedProgram | None = None) -> None:
        self.graph_module = graph_module
        self.exported = exported

    @cached_property
    def _lifted(self) -> dict[str, str]:
        if self.exported is None:
            return {}
        signature = self.exported.graph_signature
        return {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }

    @cached_property
    def _mutated(self) -> frozenset[str]:
        if self.exported is None:
            return frozenset()
        return frozenset(self.exported.graph_signature.buffers_to_mutate.values())

    @cached_property
    def _written(self) -> frozenset[int | None]:
        """Memory that an operator of the graph writes into, directly or through a view."""
        memory: set[int | None] = set()
        for node in self.graph_module.graph.nodes:
            op = overload(node) if node.op == "call_function" else None
            # such operators change sizes and strides, or detach, but no values
            if op is None or not op._schema.is_mutable or torch.Tag.inplace_view in op.tags:
                continue
            values = arguments(node)
            written = (values[parameter.name] for parameter in op._schema.arguments if parameter.is_write)
            memory.update(storage(value) for value in written if isinstance(value, fx.Node))
        return frozenset(memory - {None})

    @cached_property
    def order(self) -> dict[fx.Node, int]:
        """Position of each node in the graph."""
        return {node: position for position, node in enumerate(self.graph_module.graph.nodes)}

    def is_constant(self, node: object) -> bool:
        """Whether the node is a weight, buffer or lifted constant that nothing writes, quantized or not."""
        if not isinstance(node, fx.Node):
            return False
        if is_dequantize(node) or is_quantize(node):
            return self.is_constant(node.args[0])
        if node.op not in ("get_attr", "placeholder") or storage(node) in self._written:
            return False
        if node.op == "get_attr":
            return True
        return node.name in self._lifted and self._lifted[node.name] not in self._mutated

    def constant(self, node: fx.Node) -> torch.Tensor | None:
        """The tensor that a constant node holds, ``None`` if it cannot be read."""
        if node.op == "get_attr":
            return constant(self.graph_module, node)
        if self.exported is None or node.name not in self._lifted:
            return None
        name = self._lifted[node.name]
        value = self.exported.state_dict.get(name, self.exported.constants.get(name))
        return value if isinstance(value, torch.Tensor) else None
