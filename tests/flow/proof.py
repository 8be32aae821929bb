"""A model taken through all stages and run: three results for each input, and what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

import quanthost
from quanthost.values import Decision, Verdict

__all__ = ["BACKEND", "Proof", "prove", "rand", "sqnr"]

BACKEND = "xnnpack_like"


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sqnr(wanted: torch.Tensor, got: torch.Tensor) -> float:
    """Signal to quantization noise, 10·log10(Σ wanted² / Σ (wanted - got)²), in dB."""
    true = wanted.detach().double()
    noise = (true - got.detach()).square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(true.square().sum() / noise))


def _flat(result: Any) -> list[torch.Tensor]:
    """All float tensors of a result in one, dimension by dimension."""
    leaves = pytree.tree_leaves(result)
    return [leaf.flatten() for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


@attrs.frozen(kw_only=True, eq=False)
class Proof:
    """A program, and what model, quantized graph and runtime gave for all inputs, each as one vector."""

    program: quanthost.LoweredProgram
    module: fx.GraphModule
    model_result: torch.Tensor
    module_result: torch.Tensor
    runtime_result: torch.Tensor

    @property
    def quality(self) -> float:
        """How near the runtime comes to the model, in dB."""
        return sqnr(self.model_result, self.runtime_result)

    @property
    def fidelity(self) -> float:
        """How near the runtime comes to the quantized graph in eager torch, in dB."""
        return sqnr(self.module_result, self.runtime_result)

    @property
    def outside(self) -> tuple[str, ...]:
        return self.program.record.outside

    @property
    def pieces(self) -> int:
        return len(self.program.record.pieces)

    def rows(self) -> dict[str, str | None]:
        """The row of each quantized node."""
        return {d.node: d.row for d in self.program.decisions if d.verdict is Verdict.QUANTIZED}

    def of(self, node: str) -> Decision:
        return next(d for d in self.program.decisions if d.node == node)


def prove(
    model: nn.Module,
    batches: Sequence[tuple[Any, ...]],
    *,
    recipe: str = "int8_static",
    unseen: Sequence[tuple[Any, ...]] = (),
    dynamic_shapes: Any = None,
    **options: Any,
) -> Proof:
    """Quantize with the batches, and run on them and on the unseen ones."""
    model.eval()
    captured = quanthost.capture(model, batches[0], dynamic_shapes=dynamic_shapes)
    prepared = quanthost.prepare(captured, BACKEND, recipe, **options)
    converted = quanthost.convert(quanthost.calibrate(prepared, batches))
    program = quanthost.lower(converted)
    results: dict[str, list[torch.Tensor]] = {"model": [], "module": [], "runtime": []}
    with torch.no_grad():
        for batch in (*batches, *unseen):
            results["model"].extend(_flat(model(*batch)))
            results["module"].extend(_flat(converted.module(*batch)))
            results["runtime"].extend(_flat(program.run(*batch)))
    return Proof(
        program=program, module=converted.module,
        **{f"{name}_result": torch.cat(found) for name, found in results.items()},
    )  # fmt: skip
