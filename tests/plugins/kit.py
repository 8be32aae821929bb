"""Takes modules through all five stages, runs the program, and keeps what is needed to judge it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import fx, nn

import quanthost
from quanthost.api import Claim, Kernel, TableBackend
from quanthost.graph.rewrite import origin
from quanthost.values import Decision, Override

__all__ = ["Branches", "Case", "Output", "Proof", "Taken", "beyond", "prove"]

# beyond what calibration saw: an integer kernel must saturate as the q/dq form does
BEYOND = 1.25
# of a fake-quantized module in training form: until moving averages have come near the data
FORWARDS = 8


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """A module that does what one row is about, and inputs for it.

    ``decided`` are the rows that its decisions name, ``taken`` those that the partitioner claims: the edge
    graph has other operators than the captured one. ``varies`` is unset where drawn bounds or values may
    make the result a constant.
    """

    row: str
    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    decided: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda self: (self.row,), takes_self=True))
    taken: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda self: self.decided, takes_self=True))
    varies: bool = True


class Branches(nn.Module):
    """Cases side by side in one program, each with inputs of its own; outputs in order."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.cases = nn.ModuleList(case.module for case in cases)
        self.counts = tuple(len(case.inputs) for case in cases)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs: list[torch.Tensor] = []
        start = 0
        for module, count in zip(self.cases, self.counts):
            made = module(*inputs[start : start + count])
            outputs.extend(made if isinstance(made, tuple) else (made,))
            start += count
        return tuple(outputs)


@attrs.frozen(kw_only=True)
class Taken:
    """A claim that the partitioner took: its row, kernel and the captured nodes it covers."""

    row: str
    kernel: Kernel
    origins: frozenset[str]


@attrs.frozen(kw_only=True)
class Output:
    """One output of one run, three ways: model, q/dq form in eager torch, and the runtime.

    ``scale`` is that of the quantized result, ``None`` where the result is float.
    """

    model: torch.Tensor
    qdq: torch.Tensor
    runtime: torch.Tensor
    scale: float | None

    @property
    def lsb(self) -> float:
        """Largest difference between runtime and q/dq form, in steps of the result's scale."""
        assert self.scale is not None
        return float((self.runtime - self.qdq).abs().max()) / self.scale

    @property
    def relative(self) -> float:
        """Largest difference between runtime and q/dq form over the largest absolute value."""
        return float((self.runtime - self.qdq).abs().max() / self.qdq.abs().max().clamp(min=1e-30))

    @property
    def levels(self) -> int:
        """Different values of the result: a constant would prove nothing."""
        return int(self.qdq.unique().numel())

    @property
    def sqnr(self) -> float:
        """Signal to quantization noise of the q/dq form against the model, in dB."""
        noise = (self.model - self.qdq).pow(2).sum().clamp(min=1e-30)
        return float(10 * torch.log10(self.model.pow(2).sum() / noise))


@attrs.frozen(kw_only=True)
class Proof:
    """A program that has run, beside what it should have computed."""

    program: quanthost.LoweredProgram
    taken: tuple[Taken, ...]
    runs: tuple[tuple[Output, ...], ...]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self.program.decisions

    @property
    def outputs(self) -> Iterator[Output]:
        """The outputs of all runs."""
        return (output for run in self.runs for output in run)

    def of_case(self, number: int) -> tuple[Decision, ...]:
        """The decisions on the operators of one branch."""
        path = f"cases.{number}"
        return tuple(
            d for d in self.decisions if d.module is not None and f"{d.module}.".startswith(f"{path}.")
        )

    def decision(self, operator: str) -> Decision:
        """The decision on the only node of that operator."""
        (found,) = (d for d in self.decisions if d.operator == operator)
        return found


def prove(
    model: nn.Module,
    inputs: Sequence[torch.Tensor],
    *,
    backend: TableBackend,
    recipe: str,
    placement: str = "cost",
    overrides: Iterable[Override] = (),
    dynamic_shapes: Any = None,
    others: Iterable[Sequence[torch.Tensor]] = (),
    train: bool = False,
) -> Proof:
    """Capture, prepare, calibrate on the inputs, convert, lower, and run on the inputs and on ``others``.

    Each run compares the runtime with the converted module in eager torch and with the model. With
    ``train`` the ranges come from forward passes of the fake-quantized module in training form.
    """
    with _claims(backend) as taken:
        captured = quanthost.capture(model.eval(), tuple(inputs), dynamic_shapes=dynamic_shapes, train=train)
        prepared = quanthost.prepare(
            captured, backend.info.name, recipe, tuple(overrides), qat=train, placement=placement
        )
        static = any(r.name == recipe and r.kernel is Kernel.STATIC for r in backend.info.recipes)
        if train:
            for _ in range(FORWARDS):
                prepared.module(*inputs)
            converted = quanthost.convert(prepared)
        else:
            converted = quanthost.convert(quanthost.calibrate(prepared, [tuple(inputs)] if static else None))
        program = quanthost.lower(converted)
    runs = [_run(model, converted.module, program, each) for each in (inputs, *others)]
    return Proof(program=program, taken=tuple(dict.fromkeys(taken)), runs=tuple(runs))


@contextlib.contextmanager
def _claims(backend: TableBackend) -> Iterator[list[Taken]]:
    """The claims of the backend that are taken inside the block."""
    taken: list[Taken] = []
    mark = backend.mark

    def listen(claim: Claim) -> None:
        taken.append(_taken(claim))
        mark(claim)

    backend.mark = listen
    try:
        yield taken
    finally:
        backend.mark = mark


def _taken(claim: Claim) -> Taken:
    names = frozenset(name for node in claim.site.nodes if (name := origin(node)) is not None)
    return Taken(row=claim.site.row.name, kernel=claim.site.kernel, origins=names)


def beyond(inputs: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The same inputs, of larger range; integers stay as they are."""
    return tuple(x * BEYOND if x.is_floating_point() else x for x in inputs)


def _run(
    model: nn.Module,
    module: fx.GraphModule,
    program: quanthost.LoweredProgram,
    inputs: Sequence[torch.Tensor],
) -> tuple[Output, ...]:
    with torch.no_grad():
        three = (model(*inputs), module(*inputs), program.run(*inputs))
    flat = [made if isinstance(made, (tuple, list)) else (made,) for made in three]
    scales = [_scale(leaf) for leaf in module.graph.output_node().args[0]]  # type: ignore[union-attr]  # nodes
    return tuple(Output(model=m, qdq=q, runtime=r, scale=s) for m, q, r, s in zip(*flat, scales, strict=True))


def _scale(node: Any) -> float | None:
    """The scale of the dequantize that makes an output, ``None`` where something else does."""
    if not isinstance(node, fx.Node) or "dequantize_per_tensor" not in str(node.target):
        return None
    scale = node.args[1]
    return scale if isinstance(scale, float) else None
