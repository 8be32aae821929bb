"""Lowers an exported program, and again with operators decomposed, until the runtime can run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import fx
from torch.export import ExportedProgram

from quanthost.graph.operators import operator_name
from quanthost.graph.rewrite import origin
from quanthost.hooks.specs import LoweringOptions
from quanthost.stages.lowering.runnable import (
    Refusal,
    faulty_kernels,
    missing_kernels,
    try_to_run,
    without_kernel,
)
from quanthost.stages.records import PreparedModel
from quanthost.toolchain.active import note
from quanthost.toolchain.edge import EdgeResult, Watch, to_program
from quanthost.toolchain.kernels import decomposed, has_kernel
from quanthost.values import PieceRecord

__all__ = ["Attempts", "Lowered"]

# a decomposition may bring another operator that the runtime lacks
_ROUNDS = 4
# the captured node's name, and the operator
Operators = tuple[tuple[str | None, str], ...]
# 128 MiB in float: larger models have a trial run only when somebody runs them
_MOST_ELEMENTS = 1 << 25


@attrs.frozen(kw_only=True, eq=False)
class Lowered:
    """A program with its delegated pieces, the backend's own runner if it has one, and its kernels.

    ``modules`` register kernels of the program; the runtime here does not have those in ``missing``.
    """

    edge: EdgeResult
    pieces: tuple[PieceRecord, ...]
    runner: Callable[[list[Any]], list[Any]] | None
    modules: tuple[str, ...]
    missing: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class Attempts:
    """Lowers programs with the same partitioners and options; ``modules`` register kernels."""

    prepared: PreparedModel
    partitioners: Sequence[Any]
    options: list[LoweringOptions]
    modules: tuple[str, ...]
    watch: Watch | None

    def lower(self, exported: ExportedProgram, *, allow_missing_kernels: bool) -> Lowered:
        """The program, as far as wanted one that runs.

        Raises:
            LoweringError: the runtime cannot run an operator, and no decomposition of it is known.
        """
        for further in reversed(range(_ROUNDS)):
            lowered, refusal, operators = self._attempt(exported)
            if lowered is not None and allow_missing_kernels:
                missing = missing_kernels(lowered.edge)
                return attrs.evolve(lowered, missing=() if missing is None else missing.kernels)
            if lowered is not None and refusal is None:
                refusal = _refusal(lowered, exported)
                if refusal is None:
                    return lowered
            assert refusal is not None
            origins = refusal.origins(operators) or _without_kernels(operators)
            others = decomposed(exported, refusal.bases, origins) if further else None
            if others is None:
                plugin = ", ".join(self.prepared.request.backends)
                raise refusal.error(origins, self.prepared.captured.nodes(), plugin)
            exported = others
        raise AssertionError  # the last round returns or raises

    def _attempt(self, exported: ExportedProgram) -> tuple[Lowered | None, Refusal | None, Operators]:
        """A program or why there is none, with the operators outside of delegates."""
        try:
            edge = to_program(
                exported, partitioners=self.partitioners,
                passes=[p for option in self.options for p in option.passes],
                edge_config=_first(self.options, "edge_compile_config"),
                backend_config=_first(self.options, "backend_config"), watch=self.watch,
            )  # fmt: skip
        except Exception as error:
            refusal = without_kernel(error)
            if refusal is None:
                raise
            return None, refusal, _operators(exported.graph)
        return self._lowered(edge), None, edge.outside

    def _lowered(self, edge: EdgeResult) -> Lowered:
        pieces = tuple(
            PieceRecord(delegate=p.delegate, operators=p.operators, results=p.results) for p in edge.pieces
        )
        runner = self.prepared.plugins.runner(edge.buffer, self.prepared.request, pieces)
        return Lowered(edge=edge, pieces=pieces, runner=runner, modules=self.modules)


def _refusal(lowered: Lowered, exported: ExportedProgram) -> Refusal | None:
    edge = lowered.edge
    return missing_kernels(edge) or faulty_kernels(edge) or _try_to_run(lowered, exported)


def _operators(graph: fx.Graph) -> Operators:
    """The captured node's name and the operator of each call, as in ``EdgeResult.outside``."""
    return tuple((origin(node), operator_name(node)) for node in graph.nodes if node.op == "call_function")


def _without_kernels(operators: Operators) -> tuple[str, ...]:
    """The captured nodes of operators that the runtime must know by their parts."""
    return tuple(name for name, operator in operators if name is not None and not has_kernel(operator))


def _try_to_run(lowered: Lowered, exported: ExportedProgram) -> Refusal | None:
    """Run the program on its examples, unless the backend has a runtime of its own or the model is large."""
    constants = (*exported.state_dict.values(), *exported.constants.values())
    elements = sum(each.numel() for each in constants if isinstance(each, torch.Tensor))
    if elements > _MOST_ELEMENTS:
        note(f"no trial run: {elements / 1e6:.0f} million weights, which a run would hold once more")
        return None
    if lowered.runner is not None:
        return None
    assert exported.example_inputs is not None
    return try_to_run(lowered.edge, exported.example_inputs[0], lowered.modules)


def _first(options: list[LoweringOptions], name: str) -> Any:
    """The value of the first backend that sets this option."""
    return next((getattr(o, name) for o in options if getattr(o, name) is not None), None)
