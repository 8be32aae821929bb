"""Names for the leaves of a nested result, so that they can be listed, stored and compared."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

__all__ = ["named_leaves", "named_tensors"]


def named_leaves(outputs: Any) -> list[tuple[str, Any]]:
    """All leaves in order: ``"output"`` alone, ``"output[0]"`` of a tuple, ``"output['logits']"`` of a dict.

    The names are those of the outputs in a program's signature.
    """
    leaves, _ = pytree.tree_flatten_with_path(outputs)
    return [("output" + "".join(map(str, path)), leaf) for path, leaf in leaves]


def named_tensors(outputs: Any) -> dict[str, torch.Tensor]:
    """The leaves that are tensors, by name."""
    return {name: leaf for name, leaf in named_leaves(outputs) if isinstance(leaf, torch.Tensor)}
