"""An ExecuTorch partitioner made of callables: which nodes a delegate takes, grouped and free of cycles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from executorch.exir.backend.canonical_partitioners.pattern_op_partitioner import (
    generate_grouped_partitions_from_list_of_nodes,
)
from executorch.exir.backend.partitioner import DelegationSpec, Partitioner, PartitionResult
from executorch.exir.backend.utils import tag_constant_data
from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from quanthost.graph.table import Claim

__all__ = ["ClaimPartitioner", "Partitioner"]


class ClaimPartitioner(Partitioner):  # type: ignore[misc]  # executorch is untyped
    """Delegates what ``find`` claims, in partitions as large as the graph allows.

    ``keep`` names the operators that must not be decomposed, ``mark`` is told each claim that was taken
    (a delegate's own metadata).
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

    def ops_to_not_decompose(self, ep: ExportedProgram) -> tuple[list[OpOverload], None]:
        # without a check function ExecuTorch decomposes once instead of three times
        return list(self._keep(ep)), None

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
                node.meta["delegation_tag"] = tag
        tag_constant_data(exported_program)
        return PartitionResult(tagged_exported_program=exported_program, partition_tags=tags)


def _propose(exported: ExportedProgram, claims: list[Claim]) -> tuple[list[list[fx.Node]], list[Claim]]:
    """Partitions of the claimed nodes; a claim that would be torn apart is given up, until none is."""
    while True:
        groups = [list(claim.nodes) for claim in claims]
        found = generate_grouped_partitions_from_list_of_nodes(exported.graph_module, groups)
        partitions = [list(partition.nodes) for partition in found]
        home = {node: number for number, nodes in enumerate(partitions) for node in nodes}
        whole = [claim for claim in claims if len({home.get(node) for node in claim.nodes}) == 1]
        if len(whole) < len(claims):
            claims = whole
            continue
        working = {home[claim.nodes[0]] for claim in claims if claim.computes}
        kept = [claim for claim in claims if home[claim.nodes[0]] in working]
        return [nodes for number, nodes in enumerate(partitions) if number in working], kept
