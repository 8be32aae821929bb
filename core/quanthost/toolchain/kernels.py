"""Kernels and delegates of the ExecuTorch runtime here, and decompositions of operators without a kernel."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import Any

from torch.export import ExportedProgram
from torch.library import OpOverload

from quanthost.graph.rewrite import origin
from quanthost.toolchain.decompositions.known import decompose

__all__ = [
    "base_of",
    "decomposed",
    "has_kernel",
    "needed_kernels",
    "registered_delegates",
    "registered_kernels",
]


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


def decomposed(
    exported: ExportedProgram, bases: Collection[str], origins: Collection[str]
) -> ExportedProgram | None:
    """The program with some operators decomposed, ``None`` if no decomposition of them is known.

    ``bases`` are the operators that the runtime cannot run, ``origins`` the captured nodes that they come
    from, if that is known: where the program does not call such an operator itself, a composite operator of
    these nodes does.
    """
    calls = [node for node in exported.graph.nodes if isinstance(node.target, OpOverload)]
    refused = {node.target for node in calls if base_of(node.target.name()) in bases}
    composites = {
        node.target
        for node in calls
        if (not origins or origin(node) in origins) and not has_kernel(node.target.name())
    }
    return decompose(exported, sorted(refused or composites, key=str))


def has_kernel(operator: str) -> bool:
    """Whether the runtime has a kernel for an operator in any of its overloads, or it needs none."""
    return base_of(operator) in _kernel_bases() or operator == "getitem"


@functools.cache
def _kernel_bases() -> frozenset[str]:
    return frozenset(map(base_of, registered_kernels()))
