"""Requests for a memory layout are left out of a graph."""

from __future__ import annotations

import torch
from sample_graphs import IMAGE, graph_of, nodes_of
from torch import nn

from quanthost.graph.layouts import forget_layouts


class Layouts(nn.Module):  # type: ignore[misc]  # torch is not typed
    """Asks for channels-last memory, with a weight that lies so."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 2).to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.conv(x.contiguous(memory_format=torch.channels_last))
        return made.to(torch.float64, memory_format=torch.channels_last)


def test_values_stay() -> None:
    """A copy is dropped, a conversion keeps its dtype alone, and weights become contiguous."""
    graph = graph_of(Layouts(), IMAGE)
    wanted = graph(IMAGE)
    forget_layouts(graph)

    assert nodes_of(graph, "contiguous") == nodes_of(graph, "clone") == []
    assert all("memory_format" not in node.kwargs for node in graph.graph.nodes)
    assert graph.conv.weight.is_contiguous()
    result = graph(IMAGE)
    assert result.dtype is torch.float64
    # kernels for another layout add in another order
    torch.testing.assert_close(result, wanted, rtol=0, atol=1e-6)


def test_a_view_becomes_a_reshape() -> None:
    """A reshape copies where a view could not."""
    graph = graph_of(lambda x: x.view(3, 16), IMAGE)
    forget_layouts(graph)

    assert nodes_of(graph, "view") == []
    assert len(nodes_of(graph, "reshape")) == 1
