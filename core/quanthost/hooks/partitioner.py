"""The partitioner that a support table stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.hooks.claims import find_claims, operators_to_keep
from quanthost.toolchain.partition import ClaimPartitioner

if TYPE_CHECKING:
    from quanthost.hooks.backend import TableBackend

__all__ = ["table_partitioner"]


def table_partitioner(backend: TableBackend) -> ClaimPartitioner:
    """What ``to_edge_transform_and_lower`` takes, for the table of a backend that has a delegate."""
    assert backend.delegate is not None
    return ClaimPartitioner(
        name=backend.info.name,
        delegate=backend.delegate,
        find=lambda exported: find_claims(backend.table, exported),
        keep=lambda exported: operators_to_keep(backend.table, exported),
        mark=backend.mark,
        compile_specs=backend.compile_specs,
    )
