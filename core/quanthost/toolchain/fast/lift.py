"""From a graph with weights as attributes to an ``ExportedProgram``, without tracing it once more."""

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
    """The graph as a program whose shapes are those of the examples, flat in its inputs and outputs.

    Parameters and buffers are shared, not copied. ``None`` where the graph does more than call functional
    operators on tensors: that has to be traced.
    """
    if not all(isinstance(example, torch.Tensor) for example in examples) or not _is_plain(module):
        return None
    made = copy_graph(module)
    mode = FakeTensorMode(shape_env=ShapeEnv(), export=True, allow_non_fake_inputs=True)
    given = [node for node in made.graph.nodes if node.op == "placeholder"]
    for node, example in zip(given, examples):
        node.meta["val"] = mode.from_tensor(example.detach(), static_shapes=True)
    calls = [node for node in made.graph.nodes if node.op == "call_function"]
    if not calls:
        return None
    held = _lift_attributes(made, mode, calls[0])
    for node in given:
        calls[0].prepend(node)
    if not _compute_all(calls, mode):
        return None
    results = made.graph.output_node().args[0]
    flat = [results] if isinstance(results, fx.Node) else list(results)
    if not all(isinstance(leaf, fx.Node) and isinstance(leaf.meta["val"], torch.Tensor) for leaf in flat):
        return None
    made.graph.output_node().args = (tuple(flat),)
    # torch.export notes nothing there; the graph's own note would be of another mode
    made.graph.output_node().meta.pop("val", None)
    inputs = [InputSpec(InputKind.USER_INPUT, TensorArgument(name=node.name), target=None) for node in given]
    outputs = [
        OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name=leaf.name), target=None) for leaf in flat
    ]
    return ExportedProgram(
        root=made, graph=made.graph, constants={}, range_constraints={},
        graph_signature=ExportGraphSignature([spec for spec, _ in held] + inputs, outputs),
        state_dict={str(spec.target): tensor for spec, tensor in held},
        module_call_graph=[ModuleCallEntry(fqn="", signature=_signature(examples, results))],
        example_inputs=(tuple(examples), {}),
    )  # fmt: skip


def _compute_all(calls: Sequence[fx.Node], mode: FakeTensorMode) -> bool:
    """Note what each call gives; whether all of it is known without data."""
    for node in calls:
        try:
            node.meta["val"] = compute(node, mode)
        except Exception:
            # sizes that depend on data, or a defect of the graph: torch.export knows, or says what it is
            return False
        if not has_known_shapes(node.meta["val"]):
            return False
        if node.target is operator.getitem:
            # tracing makes it part of the operator whose result it takes
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

    They stand in the module's order, parameters before buffers, as ``torch.export`` has them.
    """
    graph = module.graph
    parameters = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    readers: dict[str, list[fx.Node]] = {name: [] for name in (*parameters, *buffers)}
    for node in graph.find_nodes(op="get_attr"):
        readers.setdefault(str(node.target), []).append(node)
    found: list[tuple[InputSpec, torch.Tensor]] = []
    for target, nodes in readers.items():
        if not nodes:
            continue
        kind = InputKind.PARAMETER if target in parameters else InputKind.BUFFER
        tensor = constant(module, nodes[0])
        assert tensor is not None
        with graph.inserting_before(first):
            # in lower case, as torch.export has them: fx would call LayerNorm layer_norm, and its target not
            placeholder = graph.placeholder(f"{_PREFIX[kind]}_{target.replace('.', '_')}".lower())
        # names that differ in case alone are numbered; copies of the graph are named by the target
        placeholder.target = placeholder.name
        placeholder.meta["val"] = mode.from_tensor(tensor, static_shapes=True)
        persistent = None if kind is InputKind.PARAMETER else True
        spec = InputSpec(kind, TensorArgument(name=placeholder.name), target=target, persistent=persistent)
        found.append((spec, tensor))
        for node in nodes:
            node.replace_all_uses_with(placeholder)
            graph.erase_node(node)
    return found


def _signature(examples: Sequence[Any], results: Any) -> ModuleCallSignature:
    shaped = results if isinstance(results, fx.Node) else tuple(results)
    return ModuleCallSignature(
        inputs=[], outputs=[],
        in_spec=pytree.tree_flatten((tuple(examples), {}))[1], out_spec=pytree.tree_flatten(shaped)[1],
    )  # fmt: skip
