"""``quanthost run``: execute a saved program, and show its outputs and how long a call takes."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch.utils import _pytree as pytree

import quanthost
from quanthost.cli.data_files import assign
from quanthost.cli.output import chatter_on_stderr, refuse_existing, write, write_json
from quanthost.debugging.tensor_files import read_tensors, write_npz
from quanthost.graph.leaves import ConstantSpec, DynamicDim, LeafSpec, SizeSpec, TensorSpec
from quanthost.graph.signature import Signature
from quanthost.report.columns import columns, facts
from quanthost.report.named_tensors import named_leaves, named_tensors
from quanthost.values import to_data

if TYPE_CHECKING:
    from quanthost import LoweredProgram

__all__ = ["OutputSummary", "run", "summarize"]

RANDOM = "random"
_SEED = 0


@attrs.frozen(kw_only=True)
class OutputSummary:
    """One output; the statistics are over its finite elements, ``None`` where it has none."""

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    not_finite: int = 0


def run(path: Path, inputs: str, *, as_json: bool, output: Path | None, repeat: int, force: bool) -> None:
    """Execute once to warm up and for the outputs, then ``repeat`` times for the latency.

    Raises:
        QuanthostError: the program or the inputs cannot be read, do not fit, or the runtime failed.
    """
    if output is not None:
        refuse_existing(output, force=force)
    program = quanthost.load(path)
    with chatter_on_stderr():
        signature = Signature.from_json(program.record.signature)
        args, kwargs = _arguments(signature, inputs)
        outputs = program.run(*args, **kwargs)
        seconds = [_timed(program, args, kwargs) for _ in range(repeat)]
    if output is not None:
        write_npz(output, named_tensors(outputs))
    median = statistics.median(seconds) * 1e3 if seconds else None
    summaries = [summarize(name, leaf) for name, leaf in named_leaves(outputs)]
    if as_json:
        write_json(
            {"program": str(path), "outputs": to_data(summaries), "latency_ms": median, "runs": repeat}
        )
    else:
        _show(summaries, median, repeat)


def summarize(name: str, leaf: Any) -> OutputSummary:
    """Shape, dtype and statistics of a tensor; of another value what it is."""
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


def _arguments(signature: Signature, source: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of the captured call, from a file or at random."""
    open_leaves = [leaf for leaf in signature.inputs if not isinstance(leaf, ConstantSpec)]
    if source == RANDOM:
        generator = torch.Generator().manual_seed(_SEED)
        values = {leaf.name: _random(leaf, generator) for leaf in open_leaves}
    else:
        found = assign(read_tensors(Path(source)), [leaf.name for leaf in open_leaves], where=source)
        values = {
            leaf.name: int(found[leaf.name]) if isinstance(leaf, SizeSpec) else found[leaf.name]
            for leaf in open_leaves
        }
    leaves = [
        leaf.value if isinstance(leaf, ConstantSpec) else values[leaf.name] for leaf in signature.inputs
    ]
    args, kwargs = pytree.tree_unflatten(leaves, signature.in_spec)
    return args, kwargs


def _random(leaf: LeafSpec, generator: torch.Generator) -> Any:
    """Standard normal numbers; 0 and 1 for integers and truth values; sizes that vary at their least."""
    if isinstance(leaf, SizeSpec):
        return _least(leaf.size)
    assert isinstance(leaf, TensorSpec)
    shape = [_least(dim) for dim in leaf.dims]
    if leaf.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(leaf.dtype)
    return torch.randint(0, 2, shape, generator=generator).to(leaf.dtype)


def _least(dim: int | DynamicDim) -> int:
    return max(dim.minimum, 1) if isinstance(dim, DynamicDim) else dim


def _timed(program: LoweredProgram, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    start = time.perf_counter()
    program.run(*args, **kwargs)
    return time.perf_counter() - start


def _show(summaries: list[OutputSummary], median: float | None, runs: int) -> None:
    numeric = ["min", "max", "mean", *(["not finite"] if any(s.not_finite for s in summaries) else [])]
    rows = (
        [
            summary.name, f"{summary.kind} {list(summary.shape)}",
            *(_number(value) for value in (summary.minimum, summary.maximum, summary.mean)),
            *([str(summary.not_finite)] if "not finite" in numeric else []),
        ]
        for summary in summaries
    )  # fmt: skip
    write(columns(["output", "tensor", *numeric], rows, numeric=numeric))
    if median is not None:
        write(facts([("\nlatency", f"\n{median:.3g} ms, median of {runs}")]))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
