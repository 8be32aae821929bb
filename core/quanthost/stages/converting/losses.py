"""Finds outputs, parts of outputs and branches of concatenations that quantization nearly destroys."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from quanthost.graph.operators import argument, base_name, draws
from quanthost.graph.provenance import NodeInfo
from quanthost.graph.rewrite import origin
from quanthost.graph.view import tensor_meta
from quanthost.graph.walk import walk
from quanthost.toolchain.observer_rounding import ObserverRounding
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import Finding, FindingKind

__all__ = ["find_losses"]

# what is at most this much above its own error is lost
_LOST_DB = 3.0
# fewer values say little about a part
_MIN_VALUES = 8
_MAX_BATCHES = 8
# an axis with more parts than this is not looked at
_MAX_PARTS = 4096


def find_losses(
    observed: fx.GraphModule, batches: Sequence[Sequence[Any]], nodes: Iterable[NodeInfo]
) -> tuple[Finding, ...]:
    """Compare the float and the rounded results of a calibrated graph on a few batches of flat inputs.

    ``nodes`` describe the captured graph, for lines of the model. A graph that
    rounds weights alone is not looked at.
    """
    batches = batches[:_MAX_BATCHES]
    placeholders = sum(node.op == "placeholder" for node in observed.graph.nodes)
    observers = [module for module in observed.modules() if isinstance(module, RangeObserver)]
    rounds_data = any(each.is_dynamic or each.observes_data for each in observers)
    # random numbers differ from run to run
    is_random = any(draws(node) for node in observed.graph.nodes if node.op == "call_function")
    if not rounds_data or is_random or not batches or any(len(batch) != placeholders for batch in batches):
        return ()
    rounding = ObserverRounding(observed, keeps_constants=False)
    branches = _Branches(rounding, {node.name: node.source for node in nodes})
    with torch.no_grad():
        exact = walk(observed, batches, branches.visit)
        rounded = walk(observed, batches, lambda _, results: results, called=rounding)
    return (*branches.findings(), *_lost_outputs(observed, exact, rounded))


@attrs.define
class _Level:
    """Sums of squares of a signal and of its error."""

    signal: float = 0.0
    noise: float = 0.0

    @property
    def decibel(self) -> float:
        if self.noise == 0:
            return math.inf
        quotient = self.signal / self.noise
        return 10 * math.log10(quotient) if quotient > 0 else -math.inf

    @property
    def is_lost(self) -> bool:
        """Whether the error is about as large as the signal; infinities of the float model are not judged."""
        return 0 < self.signal < math.inf and not self.decibel > _LOST_DB


class _Branches:
    """Rounds what is concatenated with the scale of the whole, branch by branch."""

    def __init__(self, rounding: ObserverRounding, sources: dict[str, str | None]) -> None:
        self._rounding, self._sources = rounding, sources
        self._shapes: dict[fx.Node, list[torch.Size]] = {}
        self._levels: dict[tuple[fx.Node, int], _Level] = {}
        self._largest: dict[tuple[fx.Node, int], float] = {}

    def visit(self, node: fx.Node, results: list[Any]) -> list[Any]:
        if all(isinstance(result, Tensor) for result in results):
            self._shapes[node] = [result.shape for result in results]
        source = node.args[0] if node.op == "call_module" else None
        if isinstance(source, fx.Node) and base_name(source) == "cat":
            for number, result in enumerate(results):
                self._add(node, source, number, result)
        return results

    def _add(self, observer: fx.Node, cat: fx.Node, batch: int, result: Tensor) -> None:
        dim = int(argument(cat, "dim", 0))
        sizes = [self._size(branch, batch, dim) for branch in argument(cat, "tensors")]
        if None in sizes or sum(size or 0 for size in sizes) != result.shape[dim]:
            return
        rounded = self._rounding(observer, (result,))
        parts = (tensor.double().split([size or 0 for size in sizes], dim) for tensor in (result, rounded))
        for branch, (exact, other) in enumerate(zip(*parts)):
            level = self._levels.setdefault((observer, branch), _Level())
            level.signal += float(exact.square().sum())
            level.noise += float((exact - other).square().sum())
            largest = float(exact.abs().amax()) if exact.numel() else 0.0
            key = observer, branch
            self._largest[key] = max(self._largest.get(key, 0.0), largest)

    def _size(self, branch: fx.Node, batch: int, dim: int) -> int | None:
        if branch in self._shapes:
            return int(self._shapes[branch][batch][dim])
        meta = tensor_meta(branch)
        size: int | torch.SymInt | None = None if meta is None else meta.shape[dim]
        return size if isinstance(size, int) else None

    def findings(self) -> Iterator[Finding]:
        for (observer, branch), level in self._levels.items():
            if not level.is_lost:
                continue
            cat = observer.args[0]
            assert isinstance(cat, fx.Node)
            source = _source(argument(cat, "tensors")[branch])
            largest = max(value for (node, _), value in self._largest.items() if node is observer)
            name, cat_name = origin(source) or source.name, origin(cat) or cat.name
            readers = dict.fromkeys((cat_name, *(origin(user) or user.name for user in observer.users)))
            keep = " ".join(f"--override node={each},keep_float=true" for each in readers if each != "output")
            yield Finding(
                kind=FindingKind.LOST_BRANCH, node=cat_name, where=self._sources.get(cat_name),
                seen=f"{cat_name} loses its branch {name} ({_shown(level)}): values up to "
                f"{self._largest[observer, branch]:.3g} share one scale with values up to {largest:.3g}",
                remedy=f"bring the branches to similar ranges, or keep them in float: {keep}",
            )  # fmt: skip


def _source(node: fx.Node) -> fx.Node:
    """The operator behind an observer."""
    source = node.args[0] if node.op == "call_module" else node
    assert isinstance(source, fx.Node)
    return source


def _shown(level: _Level) -> str:
    return f"{level.decibel:.1f} dB above its error"


def _lost_outputs(
    observed: fx.GraphModule, exact: Sequence[Sequence[Any]], rounded: Sequence[Sequence[Any]]
) -> Iterator[Finding]:
    leaves = pytree.tree_leaves(observed.graph.output_node().args[0])
    for number, node in enumerate(leaves):
        pairs = [(one[number], other[number]) for one, other in zip(exact, rounded)]
        if not isinstance(node, fx.Node) or not all(_is_float(one) for one, _ in pairs):
            continue
        name = origin(_source(node)) if node.op != "placeholder" else None
        whole = _level(pairs)
        if whole.is_lost:
            yield Finding(
                kind=FindingKind.LOST_OUTPUT, node=name, seen=f"output {number} is lost: {_shown(whole)}",
                remedy="calibrate with real inputs; if it stays, quanthost trace shows where it is lost",
            )  # fmt: skip
            continue
        lost = next(_lost_parts(pairs), None)
        if lost is None:
            continue
        axis, places, level = lost
        keep = (
            ""
            if name is None
            else f", or keep what computes it in float: --override node={name},keep_float=true"
        )
        yield Finding(
            kind=FindingKind.LOST_PART, node=name,
            seen=f"output {number} loses {places} of axis {axis} ({_shown(level)}; the whole output: "
            f"{whole.decibel:.0f} dB)",
            remedy=f"return parts of different ranges as outputs of their own{keep}",
        )  # fmt: skip


def _lost_parts(pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[int, str, _Level]]:
    """For each axis with lost parts: their places as text, and the level of all of them."""
    shapes = {tuple(one.shape) for one, _ in pairs}
    if len({len(shape) for shape in shapes}) != 1:
        return
    for axis in range(1, len(next(iter(shapes)))):
        sizes = {shape[axis] for shape in shapes}
        if len(sizes) != 1 or not 1 < next(iter(sizes)) <= _MAX_PARTS:
            continue
        signal, noise = (torch.zeros(next(iter(sizes)), dtype=torch.float64) for _ in range(2))
        values = 0
        for one, other in pairs:
            exact, error = (t.double().movedim(axis, 0).flatten(1) for t in (one, one - other))
            signal += exact.square().sum(1)
            noise += error.square().sum(1)
            values += exact.shape[1]
        lost = (signal > 0) & (signal <= noise * 10 ** (_LOST_DB / 10))
        if values >= _MIN_VALUES and bool(lost.any()) and not bool(lost.all()):
            level = _Level(float(signal[lost].sum()), float(noise[lost].sum()))
            yield axis, _places(lost.nonzero().flatten().tolist()), level


def _places(indices: Sequence[int]) -> str:
    """``"4:6, 9"``: ranges, and the first few of many."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1][1] = index + 1
        else:
            runs.append([index, index + 1])
    texts = [str(begin) if end == begin + 1 else f"{begin}:{end}" for begin, end in runs]
    return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "")


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _level(pairs: Iterable[tuple[Tensor, Tensor]]) -> _Level:
    level = _Level()
    for one, other in pairs:
        level.signal += float(one.double().square().sum())
        level.noise += float((one - other).double().square().sum())
    return level
