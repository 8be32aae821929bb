"""Owns what the benchmarks measure: accuracy of outputs, latency of programs, and the parts of a ``.pte``."""

from __future__ import annotations

import collections
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch.utils import _pytree as pytree

__all__ = ["Composition", "agreement", "composition", "latency", "load", "one_thread", "sqnr", "top1"]

Runner = Callable[[Sequence[torch.Tensor]], Any]


def sqnr(outputs: Any, reference: Any) -> float:
    """Signal to quantization noise in dB: 10·log10(Σ reference² / Σ (reference - output)²).

    Both are trees of tensors of the same shapes (a list of one tree an input is one too); the sums run
    over every element of every leaf in float64. Equal outputs give infinity; outputs that are not
    finite, or that differ from zeros, minus infinity.
    """
    signal = noise = 0.0
    for got, want in zip(_leaves(outputs), _leaves(reference), strict=True):
        if got.shape != want.shape:
            raise ValueError(f"an output has shape {tuple(got.shape)}, its reference {tuple(want.shape)}")
        signal += float(want.double().square().sum())
        noise += float((want.double() - got.double()).square().sum())
    if noise == 0:
        return math.inf
    if signal == 0 or not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(signal / noise)


def top1(outputs: Sequence[Any], labels: Sequence[int], scores: int) -> float:
    """Share of the inputs whose highest score, in dimension 1 of leaf ``scores``, is that of the label."""
    classes = torch.cat([_leaves(output)[scores].argmax(1) for output in outputs])
    return float((classes == torch.tensor(labels)).double().mean())


def agreement(outputs: Sequence[Any], reference: Sequence[Any], scores: int) -> float:
    """Share of places where the highest score, in dimension 1 of leaf ``scores``, is the reference's too."""
    classes = [torch.cat([_leaves(one)[scores].argmax(1) for one in side]) for side in (outputs, reference)]
    return float((classes[0] == classes[1]).double().mean())


def _leaves(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def latency(
    programs: Mapping[str, Callable[[], object]], *, runs: int = 201, warm_up: int = 10
) -> dict[str, float]:
    """Median time of a call in milliseconds, for each program.

    The programs take turns, run by run, and each round starts with the next one, so that a slow spell
    of the machine or a cold cache falls on all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    order = collections.deque(programs)
    for round_ in range(-warm_up, runs):
        for name in order:
            call = programs[name]
            start = time.perf_counter()
            call()
            if round_ >= 0:
                times[name].append(time.perf_counter() - start)
        order.rotate(-1)
    return {name: 1000 * statistics.median(taken) for name, taken in times.items()}


def one_thread() -> None:
    """Keep torch and the ExecuTorch runtime on one thread; call it before a program is loaded."""
    from executorch.extension.pybindings import portable_lib

    torch.set_num_threads(1)
    portable_lib._unsafe_reset_threadpool(1)


def load(pte: bytes) -> Runner:
    """The program in ExecuTorch's runtime, as a callable from inputs to the list of outputs."""
    import executorch.kernels.quantized  # noqa: F401  (registers the out variants of the q/dq operators)
    from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer

    module = _load_for_executorch_from_buffer(pte)

    def run(inputs: Sequence[torch.Tensor], buffer: bytes = pte) -> list[Any]:
        # The runtime reads weights from the buffer without owning it: the default keeps it alive.
        return list(module.forward(tuple(inputs)))

    return run


@attrs.frozen(kw_only=True)
class Composition:
    """What a program consists of.

    ``pieces`` counts the calls of a delegate, ``delegated`` the operators inside them (None where a
    delegate's payload is not XNNPACK's), ``outside`` the calls of portable kernels by operator.
    """

    size: int
    pieces: int
    delegated: int | None
    outside: dict[str, int]

    @property
    def share(self) -> float | None:
        """Delegated operators among all, in 0..1; None where the delegated ones cannot be counted."""
        if self.delegated is None:
            return None
        total = self.delegated + sum(self.outside.values())
        return self.delegated / total if total else 0.0


def composition(pte: bytes) -> Composition:
    """Read a serialized program: every instruction of every method counts once, loops or not."""
    from executorch.exir import schema
    from executorch.exir._serialize._program import deserialize_pte_binary

    program = deserialize_pte_binary(pte).program
    pieces = 0
    delegated: int | None = 0
    outside: collections.Counter[str] = collections.Counter()
    for plan in program.execution_plan:
        for instruction in (step.instr_args for chain in plan.chains for step in chain.instructions):
            if isinstance(instruction, schema.DelegateCall):
                pieces += 1
                delegate = plan.delegates[instruction.delegate_index]
                payload = program.backend_delegate_data[delegate.processed.index].data
                inside = _xnnpack_operators(bytes(payload)) if delegate.id == "XnnpackBackend" else None
                delegated = None if delegated is None or inside is None else delegated + inside
            elif isinstance(instruction, schema.KernelCall):
                operator = plan.operators[instruction.op_index]
                outside[f"{operator.name}.{operator.overload}".rstrip(".")] += 1
    ordered = dict(sorted(outside.items(), key=lambda item: (-item[1], item[0])))
    return Composition(size=len(pte), pieces=pieces, delegated=delegated, outside=ordered)


def _xnnpack_operators(payload: bytes) -> int:
    """Number of nodes in a serialized XNNPACK graph; conversions and changes of layout are nodes too."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from flatbuffers import encode, number_types, table

    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    graph = payload[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size]
    root = table.Table(graph, encode.Get(number_types.UOffsetTFlags.packer_type, graph, 0))
    nodes = root.Offset(6)  # the second field of XNNGraph in executorch's XNNPACK schema: xnodes
    return root.VectorLen(nodes) if nodes else 0
