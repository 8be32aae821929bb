"""Graph rewrites before annotation: operators with several results become operators with one result each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.api import Rewriter, rewrite_each, slice_parts

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = ["REWRITES", "splits_to_slices"]


@rewrite_each("aten.split.", "aten.split_with_sizes.", "aten.chunk.")
def splits_to_slices(rewriter: Rewriter, node: Node) -> None:
    """Each part of a split that is read becomes a slice of its source."""
    slice_parts(rewriter, node)


REWRITES = (splits_to_slices,)
