"""Faults of partitioners: they take too much or too little of the edge graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from chip_backends import DELEGATE, ROWS, Sound, changed, delegating
from executorch.exir.backend.partitioner import DelegationSpec, PartitionResult
from executorch.exir.backend.utils import tag_constant_data
from seeded import SeededFault
from torch import fx

from quanthost.api import Claim, Request, hookimpl, operator_name
from quanthost.hooks.claims import find_claims, operators_to_keep
from quanthost.testing import Area
from quanthost.toolchain.partition import TAG, ClaimPartitioner, Partitioner

__all__ = ["FAULTS"]


@attrs.define(kw_only=True, eq=False)
class Claims(Sound):
    """A function changes the claims of the table before they are grouped."""

    changed: Callable[[list[Claim], Any], list[Claim]] = lambda claims, _: claims

    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> list[Partitioner]:
        return [
            ClaimPartitioner(
                name=self.info.name, delegate=DELEGATE,
                find=lambda exported: self.changed(find_claims(self.table, exported), exported),
                keep=lambda exported: operators_to_keep(self.table, exported),
            )
        ]  # fmt: skip


def _without_pairs(claims: list[Claim], exported: Any) -> list[Claim]:
    """Claim only operators, not the conversions around them."""
    return [attrs.evolve(claim, nodes=claim.site.nodes) for claim in claims]


def _without_last_quantize(claims: list[Claim], exported: Any) -> list[Claim]:
    """Leave the quantize after a sum outside."""

    def drop(claim: Claim) -> tuple[fx.Node, ...]:
        is_sum = claim.site.row.name == "add"
        return tuple(n for n in claim.nodes if not (is_sum and n in claim.site.output.users))

    return [attrs.evolve(claim, nodes=drop(claim)) for claim in claims]


def _not_small(claims: list[Claim], exported: Any) -> list[Claim]:
    """Leave operators that seem too cheap to delegate."""
    return [claim for claim in claims if claim.site.row.name != "permute"]


def _float_too(claims: list[Claim], exported: Any) -> list[Claim]:
    """Claim each ReLU, even if it is float."""
    claimed = {node for claim in claims for node in claim.nodes}
    graph = exported.graph_module.graph
    more = [n for n in graph.nodes if n.op == "call_function" and n not in claimed
            and operator_name(n).startswith(("aten.relu.", "aten.neg.", "aten.abs."))]  # fmt: skip
    if not claims:
        return claims
    return [*claims, *(Claim(site=claims[0].site, nodes=(node,)) for node in more)]


def _conversions_too(claims: list[Claim], exported: Any) -> list[Claim]:
    """Claim each quantize of an input, even if nothing after it is claimed."""
    if not claims:
        return claims
    claimed = {node for claim in claims for node in claim.nodes}
    nodes = exported.graph_module.graph.nodes
    conversions = [n for n in nodes if n.op == "call_function" and n not in claimed
                   and operator_name(n).startswith("quantized_decomposed.quantize_per_tensor")]  # fmt: skip
    return [*claims, *(Claim(site=claims[0].site, nodes=(node,)) for node in conversions)]


class OneTag(Partitioner):  # type: ignore[misc]  # executorch is untyped
    """All claims become one partition, whatever lies between; or each claim becomes one."""

    def __init__(self, backend: Sound, each: bool) -> None:
        super().__init__()
        self.backend, self.each = backend, each

    def ops_to_not_decompose(self, ep: Any) -> Any:
        return list(operators_to_keep(self.backend.table, ep)), None

    def partition(self, exported_program: Any) -> PartitionResult:
        spec, tags = DelegationSpec(DELEGATE, []), {}
        for number, claim in enumerate(find_claims(self.backend.table, exported_program)):
            tag = f"chip_{number if self.each else 0}"
            tags[tag] = spec
            for node in claim.nodes:
                node.meta[TAG] = tag
        tag_constant_data(exported_program)
        return PartitionResult(tagged_exported_program=exported_program, partition_tags=tags)


class OnePartition(Sound):
    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> list[Partitioner]:
        return [OneTag(self, each=False)]


class HandsOut(Claims):
    """Sends results back to the chip only to convert them: partitions of conversions."""

    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> list[Partitioner]:
        (partitioner,) = super().quanthost_create_partitioners(request)
        partition = partitioner.partition

        def partition_results(exported: Any) -> PartitionResult:
            result = partition(exported)
            tags = dict(result.partition_tags)
            for number, node in enumerate(filter(_converts_result, exported.graph.nodes)):
                node.meta[TAG] = f"{self.info.name}_out_{number}"
                tags[node.meta[TAG]] = DelegationSpec(DELEGATE, [])
            return PartitionResult(tagged_exported_program=exported, partition_tags=tags)

        partitioner.partition = partition_results
        return [partitioner]


def _converts_result(node: fx.Node) -> bool:
    if node.op != "call_function" or TAG in node.meta:
        return False
    is_conversion = operator_name(node).startswith("quantized_decomposed.dequantize_per_tensor")
    return is_conversion and any(user.op == "output" for user in node.users)


def _faulty(name: str, fault: str, backend: Sound, case: str) -> SeededFault:
    return SeededFault(
        name=name, fault=fault, area=Area.PLACEMENT, only=(f"placement/{case}",), make=lambda _: backend
    )


FAULTS = (
    _faulty("claims_float", "Each ReLU is claimed, even a float one that the integer kernel cannot compute.",
            delegating(Claims, changed=_float_too), "claims/relu/*"),
    _faulty("claims_conversions", "Conversions are claimed that no claimed operator reads.",
            delegating(Claims, changed=_conversions_too), "claims/relu/*"),
    _faulty("leaves_conversions", "Operators are claimed without the conversions around them.",
            delegating(Claims, changed=_without_pairs), "claims/relu/*"),
    _faulty("leaves_quantize", "The quantize after one operator stays between two delegated ones.",
            delegating(Claims, changed=_without_last_quantize), "seams/add/*"),
    _faulty("leaves_an_operator", "The partitioner does not take an operator that is in the table.",
            delegating(Claims, changed=_not_small), "claims/permute/*"),
    _faulty("one_partition", "All claims become one partition, although operators between them depend on it.",
            delegating(OnePartition), "around/*"),
    _faulty("hands_out", "Partitions hold only the conversions of results, and compute nothing.",
            delegating(HandsOut), "pass_through/relu/*"),
    _faulty("decomposed", "An operator is decomposed before the partitioner sees it.",
            delegating(rows=changed("max_pool2d", keeps=())), "delegated/max_pool2d/*"),
    _faulty("only_captured_name",
            "A row names the operator of the captured graph, but not that of the edge graph.",
            delegating(rows=tuple(
                attrs.evolve(row, pattern=attrs.evolve(row.pattern, names=("conv2d",)))
                if row.name == "conv2d" else row for row in ROWS)), "delegated/conv2d/*"),
)  # fmt: skip
