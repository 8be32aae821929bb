"""Finds the decomposition of an operator: our own, torch's, or that of a composite operator."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.library import OpOverload

from quanthost.toolchain.decompositions import elementwise, indexing, ordering, windows
from quanthost.toolchain.quiet import error_logs_disabled, quiet

__all__ = ["OWN", "decompose", "decomposition_of"]

OWN: dict[str, Callable[..., Any]] = {
    **elementwise.DECOMPOSITIONS, **indexing.DECOMPOSITIONS, **ordering.DECOMPOSITIONS,
    **windows.DECOMPOSITIONS,
}  # fmt: skip


def decomposition_of(op: OpOverload) -> Callable[..., Any] | None:
    """A function that computes what the operator computes, by other operators."""
    own = OWN.get(str(op)) or _composite(op)
    if own is not None:
        return own
    try:
        from torch._decomp import get_decompositions
    except ImportError:
        # only ours are known then
        return None
    known: Callable[..., Any] | None = get_decompositions([op]).get(op)
    return known


def _composite(op: OpOverload) -> Callable[..., Any] | None:
    """The parts of an operator that torch itself defines by others, ``None`` for any other operator.

    ``OpOverload.decompose`` would come back here while the operator is being decomposed.
    """
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    python: Callable[..., Any] | None = op.py_kernels.get(key)
    if callable(python):
        return python
    if not torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key):
        return None
    return functools.partial(op._op_dk, key)


def decompose(exported: ExportedProgram, targets: Collection[OpOverload]) -> ExportedProgram | None:
    """The program without these operators where a decomposition is known; ``None`` if it is as it was."""
    table = {op: how for op in targets if (how := decomposition_of(op)) is not None}
    if not table:
        return None
    try:
        with quiet(), error_logs_disabled():
            program = exported.run_decompositions(dict(table))
    except Exception:
        # some of torch's references write in place, or take other arguments than their operator
        return None
    # torch's own primitives are for its compilers: no runtime has kernels for them
    if any(str(node.target).startswith("prims.") for node in program.graph.nodes):
        return None
    return None if _calls(program) == _calls(exported) else program


def _calls(program: ExportedProgram) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
