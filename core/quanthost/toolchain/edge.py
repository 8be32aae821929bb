"""ExecuTorch's lowering: exported program to edge dialect, partitions to delegates, program to bytes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
from executorch.exir import (
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    ExecutorchProgramManager,
    to_edge_transform_and_lower,
)
from executorch.exir.delegate import executorch_call_delegate
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import fx
from torch.export import ExportedProgram

from quanthost.graph.operators import operator_name
from quanthost.graph.rewrite import origin
from quanthost.toolchain import shortcuts
from quanthost.toolchain.graph_caches import clear_graph_caches
from quanthost.toolchain.kernel_faults import find_faults
from quanthost.toolchain.kernels import needed_kernels
from quanthost.toolchain.memory_planning import in_standard_order
from quanthost.toolchain.partition import Partitioner, WatchedPartitioner
from quanthost.toolchain.quiet import error_logs_disabled, quiet

__all__ = ["EdgeResult", "Piece", "Watch", "delegate_of", "to_program"]

_SHORTCUTS = (
    *("incremental", "local_decompositions", "compiled_when_called", "cached_lookups"),
    "shared_constants",
)

Watch: TypeAlias = Callable[[Partitioner | None, ExportedProgram], None]
"""Receives an edge graph after each partitioner has tagged it, and without a partitioner the final one."""


@attrs.frozen(kw_only=True)
class Piece:
    """One call of a delegate: its backend, its captured nodes, and the number of tensors that it returns."""

    delegate: str
    origins: frozenset[str]
    operators: int
    results: int


@attrs.frozen(kw_only=True)
class EdgeResult:
    """A program's bytes, its delegated pieces in order, and the operators outside of delegates.

    ``outside`` pairs the captured node's name (``None`` if lowering inserted the operator) with the operator.
    ``kernels`` are the names of the kernels that these operators call, as ``"aten::add.out"``; ``faults``
    pairs an operator with what its kernel does wrong in such a call.
    """

    buffer: bytes
    pieces: tuple[Piece, ...]
    outside: tuple[tuple[str | None, str], ...]
    kernels: tuple[str, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()


def to_program(
    exported: ExportedProgram,
    *,
    partitioners: Sequence[Any],
    passes: Sequence[Any] = (),
    edge_config: EdgeCompileConfig | None = None,
    backend_config: ExecutorchBackendConfig | None = None,
    watch: Watch | None = None,
) -> EdgeResult:
    """Lower an exported program with ExecuTorch's functions.

    Shortcuts skip repeated tracing that changes nothing; the program is the same.
    """
    if watch is not None:
        partitioners = [WatchedPartitioner(each, functools.partial(watch, each)) for each in partitioners]
    config = edge_config if edge_config is not None else EdgeCompileConfig(_check_ir_validity=False)
    with (
        quiet(),
        error_logs_disabled(),
        contextlib.redirect_stdout(None),
        clear_graph_caches(),
        shortcuts.entered(*_SHORTCUTS),
    ):
        edge = to_edge_transform_and_lower(
            exported, transform_passes=list(passes) or None, partitioner=list(partitioners),
            compile_config=config,
        )  # fmt: skip
        pieces, outside = _survey(edge.exported_program())
        if watch is not None:
            watch(None, edge.exported_program())
        faults = find_faults(edge.exported_program().graph_module)
        program = edge.to_executorch(in_standard_order(backend_config or ExecutorchBackendConfig()))
        kernels = needed_kernels(program)
        _release_constants(edge.exported_program().graph_module)
        content = (shortcuts.shortcut("detach_parts") or _serializer)(program)
        del edge, program
    return EdgeResult(buffer=content(), pieces=pieces, outside=outside, kernels=kernels, faults=faults)


def _serializer(program: ExecutorchProgramManager) -> Callable[[], bytes]:
    return lambda: bytes(program.buffer)


def _release_constants(graph_module: fx.GraphModule) -> None:
    """Drop the delegates' references to constants that the program now has.

    Torch keeps parts of a graph for longer, and these would keep the constants in memory.
    """
    for lowered in graph_module.children():
        output = getattr(lowered, "named_data_store_output", None)
        if output is not None:
            output.buffers.clear()


def _survey(
    edge: ExportedProgram,
) -> tuple[tuple[Piece, ...], tuple[tuple[str | None, str], ...]]:
    pieces: list[Piece] = []
    outside: list[tuple[str | None, str]] = []
    for node in edge.graph.nodes:
        if node.op != "call_function":
            continue
        if node.target is executorch_call_delegate:
            pieces.append(_piece(getattr(edge.graph_module, node.args[0].target)))
        else:
            outside.append((origin(node), operator_name(node)))
    # getitem reads the results of delegates
    return tuple(pieces), tuple(item for item in outside if item[1] != "getitem")


def delegate_of(node: fx.Node) -> str | None:
    """Describe a call of a delegate as ``"XnnpackBackend, 23 operators"``; ``None`` for any other node."""
    if node.target is not executorch_call_delegate:
        return None
    piece = _piece(getattr(node.graph.owning_module, node.args[0].target))
    return f"{piece.delegate}, {piece.operators} operators"


def _piece(lowered: LoweredBackendModule) -> Piece:
    nodes: list[fx.Node] = [
        node for node in lowered.original_module.graph.nodes if node.op == "call_function"
    ]
    names = frozenset(name for name in map(origin, nodes) if name is not None)
    results = len(lowered.original_module.graph_signature.user_outputs)
    return Piece(delegate=lowered.backend_id, origins=names, operators=len(nodes), results=results)
