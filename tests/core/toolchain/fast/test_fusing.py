"""torchao searches only for convolutions that a graph has, and the graph is what a whole search makes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from flow_nets import rand, seeded
from torch import Tensor, fx, nn
from torchao.quantization.pt2e import qat_utils

import quanthost
from quanthost.toolchain.fast.fusing import present_convolutions


class Normed(nn.Module):
    """Two kinds of convolution, each with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.up = nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 2, 2)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(2)
        seeded(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.up(torch.relu(self.first(self.flat(x)))))
        return y


def _graph() -> fx.GraphModule:
    exported = torch.export.export(Normed().train(), (rand(2, 2, 6, 6),))
    module = exported.module()
    assert isinstance(module, fx.GraphModule)
    return module


@pytest.mark.parametrize(("skips", "exports"), [(False, 12), (True, 6)])
def test_only_present_kinds_are_searched(monkeypatch: pytest.MonkeyPatch, skips: bool, exports: int) -> None:
    """Of four kinds, with three patterns each, two are searched; the batch norms are fused all the same."""
    export, patterns = qat_utils._get_aten_graph_module_for_pattern, []

    def count(pattern: Any, *args: Any, **kwargs: Any) -> Any:
        patterns.append(pattern)
        return export(pattern, *args, **kwargs)

    monkeypatch.setattr(qat_utils, "_get_aten_graph_module_for_pattern", count)
    with present_convolutions() if skips else contextlib.nullcontext():
        graph = qat_utils._fuse_conv_bn_qat(_graph()).graph

    assert len(patterns) == exports
    # a fused layer divides its weight's scale out of its result again
    assert sum(node.target is torch.ops.aten.div.Tensor for node in graph.nodes) == 4


@pytest.mark.slow
def test_an_absent_kind_changes_nothing() -> None:
    """torchao's whole search of a trained graph, for a kind of convolution that it does not have."""
    x = rand(2, 2, 6, 6)
    captured = quanthost.capture(Normed(), (x,), train=True)
    prepared = quanthost.prepare(captured, "xnnpack_like", qat=True)
    prepared.module(x)
    graph = prepared.module
    before = graph.code

    inputs = (torch.randn(1, 1, 3), torch.randn(1, 1, 1), *(torch.randn(1) for _ in range(4)))
    searched = qat_utils._fold_conv_bn_qat_helper(graph, nn.functional.conv1d, inputs, is_cuda=False)

    assert searched.code == before
