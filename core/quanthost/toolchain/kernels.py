"""Kernels and delegates of the ExecuTorch runtime here, and decompositions of operators without a kernel."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from torch.export import ExportedProgram
from torch.library import OpOverload

from quanthost.toolchain.quiet import quiet

__all__ = ["base_of", "decomposed", "needed_kernels", "registered_delegates", "registered_kernels"]


def registered_kernels() -> frozenset[str]:
    """The names of the kernels that this process has, as ``"aten::add.out"``."""
    from executorch.extension.pybindings import portable_lib

    return frozenset(portable_lib._get_operator_names())


def registered_delegates() -> frozenset[str]:
    """The names of the delegates that this process has, as ``"XnnpackBackend"``."""
    from executorch.extension.pybindings import portable_lib

    return frozenset(portable_lib._get_registered_backend_names())


def needed_kernels(program: Any) -> tuple[str, ...]:
    """The names of the kernels that an ``ExecutorchProgramManager``'s methods call."""
    operators = [each for plan in program.executorch_program.execution_plan for each in plan.operators]
    return tuple(f"{each.name}.{each.overload}" if each.overload else each.name for each in operators)


def base_of(kernel: str) -> str:
    """The operator of a kernel or of an operator's name: ``"sort"`` of ``"aten::sort.values"``."""
    namespace, *rest = re.split(r"::|\.", kernel)
    # what is no operator of torch has no namespace: "getitem"
    return (rest[0] if rest else namespace).removesuffix("_copy")


def decomposed(exported: ExportedProgram, bases: Collection[str]) -> ExportedProgram | None:
    """The program with some operators decomposed as torch knows it, ``None`` if it knows none of them.

    torch's reference implementations of an operator consist of others, most of which the runtime has.
    """
    try:
        from torch._decomp import get_decompositions
    except ImportError:
        # the operators are refused then
        return None
    targets = {
        node.target
        for node in exported.graph.nodes
        if isinstance(node.target, OpOverload) and base_of(node.target.name()) in bases
    }
    table = get_decompositions(sorted(targets, key=str))
    if not table:
        return None
    with quiet():
        program = exported.run_decompositions(dict(table))
    # torch's own primitives are for its compilers: no runtime has kernels for them
    if any(str(node.target).startswith("prims.") for node in program.graph.nodes):
        return None
    return program
