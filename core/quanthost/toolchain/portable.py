"""Compiles a delegate's partition to a separate program of portable ExecuTorch kernels, and runs it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
from executorch.exir import EdgeCompileConfig, to_edge
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_structure

from quanthost.errors import LoweringError
from quanthost.graph.operators import overload
from quanthost.integer.conversion import to_integers
from quanthost.integer.kernels.forms import Form, set_form
from quanthost.toolchain.export import dynamic_shapes, export
from quanthost.toolchain.quiet import quiet
from quanthost.toolchain.runtime import Executor, register_kernels
from quanthost.values import ArithmeticProfile, Rescaling

__all__ = ["compile_portable", "execute_portable"]

_KERNELS = ("executorch.kernels.quantized",)
# loaded programs in one process, more than most networks have pieces
_CACHE_SIZE = 64


def compile_portable(partition: ExportedProgram, arithmetic: ArithmeticProfile | None = None) -> bytes:
    """The partition of an edge program as a ``.pte`` of portable and quantized kernels.

    With ``arithmetic`` its operators compute in that profile's integers.

    Raises:
        LoweringError: a size that the partition takes as an input is not the size of an input tensor.
        ConversionError: a number does not fit the profile.
    """
    register_kernels(_KERNELS)
    own = copy.deepcopy(partition)
    _read_sizes_from_tensors(own)
    if arithmetic is not None:
        own = _to_integer_arithmetic(own, arithmetic)
    with quiet():
        edge = to_edge(own, compile_config=EdgeCompileConfig(_check_ir_validity=False))
        return bytes(edge.to_executorch().buffer)


def _to_integer_arithmetic(partition: ExportedProgram, profile: ArithmeticProfile) -> ExportedProgram:
    """The partition with integer operators between dequantize and quantize."""
    module = partition.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    # edge operators cannot be traced again outside of an edge program
    for node in module.graph.nodes:
        node.target = overload(node) or node.target
    to_integers(module, profile)
    # float32 rounds the same product in far fewer operators
    in_float32 = profile.rescaling is Rescaling.FP32_HALF_EVEN
    set_form(module, Form.REFERENCE if in_float32 else Form.PORTABLE)
    inputs = [node.meta["val"] for node in module.graph.find_nodes(op="placeholder")]
    examples = [torch.zeros([_example_size(size) for size in x.shape], dtype=x.dtype) for x in inputs]
    # the range of a size may go beyond what torch can prove of an integer operator
    shapes = dynamic_shapes(partition, Dim.AUTO)
    return export(_Positional(module), examples, dynamic_shapes=None if shapes is None else (shapes,))


class _Positional(nn.Module):  # type: ignore[misc]
    """Passes its inputs on as one tuple: a graph's own signature is unknown until its code is compiled."""

    def __init__(self, partition: fx.GraphModule) -> None:
        super().__init__()
        self.partition = partition

    def forward(self, *inputs: Tensor) -> Any:
        return self.partition(*inputs)


def _example_size(size: int | torch.SymInt) -> int:
    return size if isinstance(size, int) else int(size.node.hint)


def execute_portable(blob: bytes, inputs: Sequence[Any]) -> list[Tensor]:
    """Run what ``compile_portable`` made in the ExecuTorch runtime of this machine.

    Raises:
        ProgramError: the runtime refused or failed.
    """
    return _load(blob)([each for each in inputs if isinstance(each, Tensor)])


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _load(blob: bytes) -> Executor:
    return Executor(blob, _KERNELS)


def _read_sizes_from_tensors(program: ExportedProgram) -> None:
    """Replace size inputs by the sizes of input tensors: a program fixes inputs that are not tensors."""
    graph = program.graph_module.graph
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    user = [each for each in program.graph_signature.input_specs if each.kind is InputKind.USER_INPUT]
    # the signature of a partition declares every input a tensor
    tensors = [node for each in user if _is_tensor(node := placeholders[each.arg.name])]
    if len(tensors) == len(user):
        return
    for each in user:
        size = placeholders[each.arg.name]
        if _is_tensor(size):
            continue
        source, dim = _owner(size, tensors)
        with graph.inserting_after(list(placeholders.values())[-1]):
            read = graph.call_function(torch.ops.aten.sym_size.int, (source, dim))
        read.meta = dict(size.meta)
        size.replace_all_uses_with(read)
        graph.erase_node(size)
        program.graph_signature.input_specs.remove(each)
    signature = program.module_call_graph[0].signature
    assert signature is not None
    signature.in_spec = tree_structure((tuple(node.name for node in tensors), {}))
    signature.forward_arg_names = None
    program.graph_module.recompile()


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta["val"], Tensor)


def _owner(size: fx.Node, tensors: Sequence[fx.Node]) -> tuple[fx.Node, int]:
    """The first input tensor and dimension with the given size."""
    for tensor in tensors:
        for dim, each in enumerate(tensor.meta["val"].shape):
            if str(each) == str(size.meta["val"]):
                return tensor, dim
    raise LoweringError(
        f"a partition with the input {size.name}, which is no tensor", stage="lower", node=size.name,
        needed="sizes of the partition's input tensors", value=size.meta["val"],
        remedy="let a constraint refuse the operator that reads it",
    )  # fmt: skip
