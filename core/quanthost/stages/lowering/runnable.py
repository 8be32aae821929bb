"""Finds out, while lowering, whether the runtime here can run a program; what it can't run is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from quanthost.errors import LoweringError, ProgramError
from quanthost.graph.provenance import NodeInfo
from quanthost.toolchain.edge import EdgeResult
from quanthost.toolchain.kernels import base_of, registered_delegates, registered_kernels
from quanthost.toolchain.runtime import Executor

__all__ = ["Refusal", "faulty_kernels", "missing_kernels", "try_to_run", "without_kernel"]

# their kernels take every shape and dtype that the stages produce
_PROVED = ("quantized_decomposed::", "executorch_prim::", "dim_order_ops::")
_CALL = re.compile(r"KernelCall failed at instruction \S+ in operator (\S+): ")
_NO_VARIANT = re.compile(r"Missing out variants: \{(.+)\}")
_CHECK = re.compile(r"^\s*\[(?:op_|kernel_ops_util|tensor_util)\S*\] (.+)$", re.MULTILINE)


@attrs.frozen(kw_only=True)
class Refusal:
    """Why the runtime cannot run a program: operators of which it has no kernel, or one that refuses."""

    kernels: tuple[str, ...]
    reason: str

    @property
    def bases(self) -> frozenset[str]:
        """The operators, as ``"sort"``."""
        return frozenset(map(base_of, self.kernels))

    def origins(self, operators: Iterable[tuple[str | None, str]]) -> tuple[str, ...]:
        """The captured nodes of such operators; ``operators`` is as ``EdgeResult.outside``."""
        names = [name for name, operator in operators if base_of(operator) in self.bases]
        return tuple(name for name in names if name is not None)

    def error(self, origins: Sequence[str], nodes: Sequence[NodeInfo], plugin: str) -> LoweringError:
        """The error for the app developer, with the first line of the model that calls such an operator."""
        by_name = {node.name: node for node in nodes}
        sources = [by_name[name] for name in origins if name in by_name]
        first = sources[0] if sources else None
        return LoweringError(
            self.reason, stage="lower", plugin=plugin,
            node=None if first is None else first.name, where=None if first is None else first.source,
            needed="operators that the ExecuTorch runtime installed here can run",
            remedy="write it with other operators, or compute it outside of the model; for a runtime that "
            "can: allow_missing_kernels=True, --allow-missing-kernels",
            value=self.kernels,
        )  # fmt: skip


def missing_kernels(edge: EdgeResult) -> Refusal | None:
    """The kernels that the runtime does not have."""
    missing = tuple(sorted(set(edge.kernels) - registered_kernels()))
    if not missing:
        return None
    return _no_kernel(missing)


def _no_kernel(kernels: tuple[str, ...]) -> Refusal:
    names = ", ".join(sorted({base_of(each) for each in kernels}))
    return Refusal(kernels=kernels, reason=f"the ExecuTorch runtime has no kernel for {names}")


def without_kernel(error: BaseException) -> Refusal | None:
    """The operators of an error of ExecuTorch's emitter: those that write to no tensor that is given."""
    listed = _NO_VARIANT.search(str(error))
    if listed is None:
        return None
    kernels = tuple(sorted(re.findall(r"'([^']+)'", listed[1])))
    return _no_kernel(kernels)


def faulty_kernels(edge: EdgeResult) -> Refusal | None:
    """The first kernel that is called in a way in which it is known to fail."""
    if not edge.faults:
        return None
    operator, fault = edge.faults[0]
    return Refusal(kernels=(operator,), reason=f"the kernel of {base_of(operator)} {fault}")


def try_to_run(edge: EdgeResult, inputs: Sequence[object], modules: Sequence[str]) -> Refusal | None:
    """Run the program once on the examples; some kernels refuse a rank or a dtype.

    Nothing is run if a delegate is not registered here, since the program is for another runtime; nor if
    only delegates and conversions compute, since a run holds the weights once more.
    """
    if all(kernel.startswith(_PROVED) for kernel in edge.kernels):
        return None
    if not {piece.delegate for piece in edge.pieces} <= registered_delegates():
        return None
    try:
        Executor(edge.buffer, modules)(inputs)
    except ProgramError as error:
        text = str(error)
        call, check = _CALL.search(text), _CHECK.search(text)
        if call is None:
            return Refusal(kernels=(), reason=f"the program does not run: {text.splitlines()[0]}")
        reason = "" if check is None else f": {check[1].strip()}"
        return Refusal(
            kernels=(call[1],), reason=f"the kernel of {base_of(call[1])} refuses its operands{reason}"
        )
    return None
