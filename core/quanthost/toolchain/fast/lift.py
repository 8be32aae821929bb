"""Turns a graph with weights as attributes into an ``ExportedProgram`` without tracing it again."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from quanthost.graph.view import constant
from quanthost.toolchain.fast.decompose import has_known_shapes, is_functional
from quanthost.toolchain.fast.retrace import compute, copy_graph

__all__ = ["lift"]

_PREFIX = {InputKind.PARAMETER: "p", InputKind.BUFFER: "b"}


def lift(module: fx.GraphModule, examples: Sequence[Any]) -> ExportedProgram | None:
    """The graph as a program with the examples' shapes and flat inputs and outputs.

    It shares parameters and buffers. ``None`` if the graph does more than call functional operators on
    tensors: then it must be traced.
    """
    if not all(isinstance(example, torch.Tensor) for example in examples) or not _is_plain(module):
        return None
    lifted = copy_graph(module)
    mode = FakeTensorMode(shape_env=ShapeEnv(), export=True, allow_non_fake_inputs=True)
    placeholders = [node for node in lifted.graph.nodes if node.op == "placeholder"]
    for node, example in zip(placeholders, examples):
        node.meta["val"] = mode.from_tensor(example.detach(), static_shapes=True)
    calls = [node for node in lifted.graph.nodes if node.op == "call_function"]
    if not calls:
        return None
    attributes = _lift_attributes(lifted, mode, calls[0])
    for node in placeholders:
        calls[0].prepend(node)
    if not _compute_all(calls, mode):
        return None
    results = lifted.graph.output_node().args[0]
    flat = [results] if isinstance(results, fx.Node) else list(results)
    if not all(isinstance(leaf, fx.Node) and isinstance(leaf.meta["val"], torch.Tensor) for leaf in flat):
        return None
    lifted.graph.output_node().args = (tuple(flat),)
    # torch.export has no value here; the graph's value belongs to another fake mode
    lifted.graph.output_node().meta.pop("val", None)
    inputs = [InputSpec(InputKind.USER_INPUT, TensorArgument(name=n.name), target=None) for n in placeholders]
    outputs = [
        OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name=leaf.name), target=None) for leaf in flat
    ]
    return ExportedProgram(
        root=lifted, graph=lifted.graph, constants={}, range_constraints={},
        graph_signature=ExportGraphSignature([spec for spec, _ in attributes] + inputs, outputs),
        state_dict={str(spec.target): tensor for spec, tensor in attributes},
        module_call_graph=[ModuleCallEntry(fqn="", signature=_signature(examples, results))],
        example_inputs=(tuple(examples), {}),
    )  # fmt: skip


def _compute_all(calls: Sequence[fx.Node], mode: FakeTensorMode) -> bool:
    """Compute the fake result of each call; return whether none depends on data."""
    for node in calls:
        try:
            node.meta["val"] = compute(node, mode)
        except Exception:
            # sizes that depend on data, or a defect of the graph: torch.export handles or reports it
            return False
        if not has_known_shapes(node.meta["val"]):
            return False
        if node.target is operator.getitem:
            # tracing gives it the metadata of the operator whose result it reads
            node.meta["custom"] = node.args[0].meta.get("custom")
    return True


def _is_plain(module: fx.GraphModule) -> bool:
    return all(
        node.op in ("placeholder", "get_attr", "output")
        or (node.op == "call_function" and is_functional(node))
        for node in module.graph.nodes
    )


def _lift_attributes(
    module: fx.GraphModule, mode: FakeTensorMode, first: fx.Node
) -> list[tuple[InputSpec, torch.Tensor]]:
    """Turn each attribute that the graph reads into an input before the first call; one for each name.

    They are in the module's order, parameters before buffers, as in ``torch.export``.
    """
    graph = module.graph
    parameters = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    readers: dict[str, list[fx.Node]] = {name: [] for name in (*parameters, *buffers)}
    for node in graph.find_nodes(op="get_attr"):
        readers.setdefault(str(node.target), []).append(node)
    attributes: list[tuple[InputSpec, torch.Tensor]] = []
    for target, nodes in readers.items():
        if not nodes:
            continue
        kind = InputKind.PARAMETER if target in parameters else InputKind.BUFFER
        tensor = constant(module, nodes[0])
        assert tensor is not None
        with graph.inserting_before(first):
            # in lower case, as in torch.export: fx would name LayerNorm layer_norm, but not its target
            placeholder = graph.placeholder(f"{_PREFIX[kind]}_{target.replace('.', '_')}".lower())
        # fx numbers names that differ only in case; copies of the graph use the target as name
        placeholder.target = placeholder.name
        placeholder.meta["val"] = mode.from_tensor(tensor, static_shapes=True)
        persistent = None if kind is InputKind.PARAMETER else True
        spec = InputSpec(kind, TensorArgument(name=placeholder.name), target=target, persistent=persistent)
        attributes.append((spec, tensor))
        for node in nodes:
            node.replace_all_uses_with(placeholder)
            graph.erase_node(node)
    return attributes


def _signature(examples: Sequence[Any], results: Any) -> ModuleCallSignature:
    shaped = results if isinstance(results, fx.Node) else tuple(results)
    return ModuleCallSignature(
        inputs=[], outputs=[],
        in_spec=pytree.tree_flatten((tuple(examples), {}))[1], out_spec=pytree.tree_flatten(shaped)[1],
    )  # fmt: skip
