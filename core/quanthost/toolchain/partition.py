"""ExecuTorch partitioners: one groups claimed nodes without cycles, one shows another's tagged graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from executorch.exir.backend.partitioner import DelegationSpec, Partitioner, PartitionResult
from executorch.exir.backend.utils import tag_constant_data
from torch import fx
from torch.export import ExportedProgram
from torch.library import OpOverload

from quanthost.graph.levels import by_level
from quanthost.graph.table import Claim

__all__ = ["TAG", "ClaimPartitioner", "Partitioner", "WatchedPartitioner"]

# ExecuTorch's key, in a node's metadata, for the partition that the node belongs to
TAG = "delegation_tag"


class ClaimPartitioner(Partitioner):  # type: ignore[misc]  # executorch is untyped
    """Delegates what ``find`` claims, in partitions as large as the graph allows.

    ``keep`` returns the operators that must not be decomposed. ``mark`` receives each claim that is in a
    partition and may add the delegate's own metadata.
    """

    def __init__(
        self,
        *,
        name: str,
        delegate: str,
        find: Callable[[ExportedProgram], Sequence[Claim]],
        keep: Callable[[ExportedProgram], Iterable[OpOverload]],
        mark: Callable[[Claim], None] = lambda _: None,
        compile_specs: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.name = name
        self.delegation_spec = DelegationSpec(delegate, list(compile_specs))
        self._find, self._keep, self._mark = find, keep, mark
        self._preserved: tuple[list[Any], list[OpOverload]] = ([], [])

    def ops_to_not_decompose(self, ep: ExportedProgram) -> tuple[list[OpOverload], None]:
        # without a check function ExecuTorch decomposes once instead of three times, but calls this twice
        graph = [(node, node.target, node.args) for node in ep.graph.nodes]
        if self._preserved[0] != graph:
            self._preserved = graph, list(self._keep(ep))
        return list(self._preserved[1]), None

    def partition(self, exported_program: ExportedProgram) -> PartitionResult:
        claims = list(self._find(exported_program))
        partitions, claims = _propose(exported_program, claims)
        for claim in claims:
            self._mark(claim)
        tags: dict[str, DelegationSpec] = {}
        for number, nodes in enumerate(partitions):
            tag = f"{self.name}_{number}"
            tags[tag] = self.delegation_spec
            for node in nodes:
                node.meta[TAG] = tag
        tag_constant_data(exported_program)
        return PartitionResult(tagged_exported_program=exported_program, partition_tags=tags)


class WatchedPartitioner(Partitioner):  # type: ignore[misc]  # executorch is untyped
    """Wraps a partitioner and passes its tagged graph to ``see`` before ExecuTorch splits the graph."""

    def __init__(self, watched: Partitioner, see: Callable[[ExportedProgram], None]) -> None:
        super().__init__(watched.spec)
        self._watched, self._see = watched, see

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watched, name)

    def ops_to_not_decompose(self, ep: ExportedProgram) -> Any:
        return self._watched.ops_to_not_decompose(ep)

    def transform_for_pre_decomposition(self, exported_program: ExportedProgram) -> ExportedProgram:
        return self._watched.transform_for_pre_decomposition(exported_program)

    def partition(self, exported_program: ExportedProgram) -> PartitionResult:
        result = self._watched.partition(exported_program)
        self._see(result.tagged_exported_program)
        return result


def _propose(exported: ExportedProgram, claims: list[Claim]) -> tuple[list[list[fx.Node]], list[Claim]]:
    """Group claimed nodes into partitions that compute something; also return the claims inside partitions.

    ExecuTorch's own grouping gives the same partitions, in quadratic time and memory.
    """
    pieces, _ = by_level(exported.graph, [claim.nodes for claim in claims])
    working = [piece for piece in pieces if any(claims[number].computes for number in piece)]
    partitions = [[node for number in piece for node in claims[number].nodes] for piece in working]
    return partitions, [claims[number] for number in sorted(n for piece in working for n in piece)]
