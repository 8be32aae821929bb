"""A delegate's partition as a program of its own, on the portable kernels of the ExecuTorch runtime."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
from executorch.exir import EdgeCompileConfig, to_edge
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_structure

from quanthost.errors import LoweringError
from quanthost.toolchain.quiet import quiet
from quanthost.toolchain.runtime import Executor, register_kernels

__all__ = ["compile_portable", "execute_portable"]

_KERNELS = ("executorch.kernels.quantized",)
# loaded programs of one process: a network has this many pieces at most, or few of them are run in turns
_KEPT = 64


def compile_portable(partition: ExportedProgram) -> bytes:
    """The partition of an edge program as a ``.pte`` of portable and quantized kernels.

    Raises:
        LoweringError: a size that the partition takes as an input is not the size of an input tensor.
    """
    register_kernels(_KERNELS)
    own = copy.deepcopy(partition)
    _sizes_from_tensors(own)
    with quiet():
        edge = to_edge(own, compile_config=EdgeCompileConfig(_check_ir_validity=False))
        return bytes(edge.to_executorch().buffer)


def execute_portable(blob: bytes, inputs: Sequence[Any]) -> list[Tensor]:
    """Run what ``compile_portable`` made in the ExecuTorch runtime of this machine.

    Raises:
        ProgramError: the runtime refused or failed.
    """
    return _loaded(blob)([given for given in inputs if isinstance(given, Tensor)])


@functools.lru_cache(maxsize=_KEPT)
def _loaded(blob: bytes) -> Executor:
    return Executor(blob, _KERNELS)


def _sizes_from_tensors(program: ExportedProgram) -> None:
    """Read sizes from the input tensors that have them: a program's inputs of other kinds are fixed."""
    graph = program.graph_module.graph
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    user = [each for each in program.graph_signature.input_specs if each.kind is InputKind.USER_INPUT]
    # ExecuTorch calls each input of a partition a tensor in its signature
    tensors = [node for each in user if _is_tensor(node := placeholders[each.arg.name])]
    if len(tensors) == len(user):
        return
    for each in user:
        size = placeholders[each.arg.name]
        if _is_tensor(size):
            continue
        source, dim = _owner(size, tensors)
        with graph.inserting_after(list(placeholders.values())[-1]):
            made = graph.call_function(torch.ops.aten.sym_size.int, (source, dim))
        made.meta = dict(size.meta)
        size.replace_all_uses_with(made)
        graph.erase_node(size)
        program.graph_signature.input_specs.remove(each)
    whole = program.module_call_graph[0].signature
    assert whole is not None
    whole.in_spec = tree_structure((tuple(node.name for node in tensors), {}))
    whole.forward_arg_names = None
    program.graph_module.recompile()


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta["val"], Tensor)


def _owner(size: fx.Node, tensors: Sequence[fx.Node]) -> tuple[fx.Node, int]:
    """The input tensor and its dimension that has a size."""
    for tensor in tensors:
        for dim, each in enumerate(tensor.meta["val"].shape):
            if str(each) == str(size.meta["val"]):
                return tensor, dim
    raise LoweringError(
        f"a partition with the input {size.name}, which is no tensor", stage="lower", node=size.name,
        needed="sizes of the partition's input tensors", value=size.meta["val"],
        remedy="let a constraint refuse the operator that reads it",
    )  # fmt: skip
