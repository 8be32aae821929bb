"""Lowers what is converted in both ways, and holds one against the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from flow_nets import seeded
from torch import Tensor, nn

import quanthost
from quanthost.stages.records import ConvertedModel
from quanthost.values import Decision

__all__ = ["Convolutional", "converted", "same_program"]


class Convolutional(nn.Module):
    """One convolution twice, a batch norm that stays, pooling, and an output that is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)
        seeded(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu_(self.conv(x))
        y = self.norm(nn.functional.hardswish(self.conv(y)))
        return self.head(y.mean((2, 3))), y.permute(0, 2, 3, 1)[:, 1:]


def converted(
    model: nn.Module, inputs: tuple[Tensor, ...], backend: str, recipe: str, dynamic: Any = None
) -> ConvertedModel:
    captured = quanthost.capture(model.eval(), inputs, dynamic_shapes=dynamic)
    prepared = quanthost.prepare(captured, backend, recipe, placement="all")
    return quanthost.convert(quanthost.calibrate(prepared, [inputs]))


def same_program(made: ConvertedModel, inputs: Sequence[Tensor], **options: Any) -> tuple[bytes, bytes]:
    """Both programs, which have the same delegated operators, the same kernels, and equal outputs.

    Operators that one operator is taken apart into may be in another order, and so may constants. Tracing
    leaves a copy of what idle dropout hands on.
    """
    quick = quanthost.lower(made, **options)
    upstream = quanthost.lower(made, toolchain="upstream", **options)

    assert [p.delegate for p in quick.record.pieces] == [p.delegate for p in upstream.record.pieces]
    assert [p.operators for p in quick.record.pieces] == [p.operators for p in upstream.record.pieces]
    assert _kernels(quick) == _kernels(upstream)
    assert [_decided(d) for d in quick.decisions] == [_decided(d) for d in upstream.decisions]
    assert abs(len(quick.buffer) - len(upstream.buffer)) <= 0.04 * len(upstream.buffer)
    leaves = torch.utils._pytree.tree_leaves
    assert all(map(torch.equal, leaves(quick.run(*inputs)), leaves(upstream.run(*inputs))))
    return quick.buffer, upstream.buffer


def _kernels(program: quanthost.LoweredProgram) -> list[str]:
    return sorted(name for name in program.record.outside if "_clone_dim_order" not in name)


def _decided(decision: Decision) -> Decision:
    return attrs.evolve(decision, placement="")
