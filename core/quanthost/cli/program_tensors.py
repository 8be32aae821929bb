"""Inputs for a program, from a file or at random, and summaries of its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import torch
from torch.utils import _pytree as pytree

from quanthost.cli.data_files import assign
from quanthost.debugging.tensor_files import read_tensors
from quanthost.graph.leaves import ConstantSpec, DynamicDim, LeafSpec, SizeSpec, TensorSpec
from quanthost.graph.signature import Signature

__all__ = ["OutputSummary", "program_arguments", "summarize"]

RANDOM = "random"
_SEED = 0


@attrs.frozen(kw_only=True)
class OutputSummary:
    """One output; the statistics are over its finite elements, ``None`` if it has none."""

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    not_finite: int = 0


def summarize(name: str, leaf: Any) -> OutputSummary:
    """Shape, dtype and statistics of a tensor; the text of another value."""
    if not isinstance(leaf, torch.Tensor):
        return OutputSummary(name=name, kind=repr(leaf))
    kind, shape = str(leaf.dtype).removeprefix("torch."), tuple(leaf.shape)
    values = leaf.detach().to(torch.float64)
    finite = values[torch.isfinite(values)]
    bad = values.numel() - finite.numel()
    if not finite.numel():
        return OutputSummary(name=name, kind=kind, shape=shape, not_finite=bad)
    low, high, mean = (float(value) for value in (finite.min(), finite.max(), finite.mean()))
    return OutputSummary(
        name=name, kind=kind, shape=shape, minimum=low, maximum=high, mean=mean, not_finite=bad
    )


def program_arguments(signature: Signature, source: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of the captured call, from a file, or at random where the source is ``"random"``.

    Raises:
        InputError: the file cannot be read, or its names are not those of the inputs.
    """
    open_leaves = [leaf for leaf in signature.inputs if not isinstance(leaf, ConstantSpec)]
    if source == RANDOM:
        generator = torch.Generator().manual_seed(_SEED)
        values = {leaf.name: _random(leaf, generator) for leaf in open_leaves}
    else:
        tensors = assign(read_tensors(Path(source)), [leaf.name for leaf in open_leaves], where=source)
        values = {
            leaf.name: int(tensors[leaf.name]) if isinstance(leaf, SizeSpec) else tensors[leaf.name]
            for leaf in open_leaves
        }
    leaves = [
        leaf.value if isinstance(leaf, ConstantSpec) else values[leaf.name] for leaf in signature.inputs
    ]
    args, kwargs = pytree.tree_unflatten(leaves, signature.in_spec)
    return args, kwargs


def _random(leaf: LeafSpec, generator: torch.Generator) -> Any:
    """Standard normal floats; 0 and 1 for integers and truth values; dynamic sizes at their minimum."""
    if isinstance(leaf, SizeSpec):
        return _minimum(leaf.size)
    assert isinstance(leaf, TensorSpec)
    shape = [_minimum(dim) for dim in leaf.dims]
    if leaf.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(leaf.dtype)
    return torch.randint(0, 2, shape, generator=generator).to(leaf.dtype)


def _minimum(dim: int | DynamicDim) -> int:
    return max(dim.minimum, 1) if isinstance(dim, DynamicDim) else dim
