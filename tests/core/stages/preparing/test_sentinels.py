"""Where mask sentinels go: from masks and constants to what bounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sample_graphs import ROW, graph_of
from torch import fx, nn

from quanthost.stages.preparing.sentinels import nodes_with_sentinels

LOWEST = torch.finfo(torch.float32).min
MASK = torch.tensor([[True, False, False, True]])


def touched(model: nn.Module | Callable[..., Any], *inputs: torch.Tensor) -> dict[str, str]:
    """Names of the touched nodes, but for the copies that tracing makes of literals, with their sources."""
    found = nodes_with_sentinels(graph_of(model, *(inputs or (ROW,))))
    return {
        node.name: source
        for node, source in found.items()
        if not node.name.startswith(("lift_fresh_copy", "detach_"))
    }


@pytest.mark.parametrize("sentinel", [float("-inf"), float("inf"), LOWEST, -1e30], ids=str)
def test_masked_scores(sentinel: float) -> None:
    """A mask is a sentinel from where it is filled in to the softmax that ends it."""
    assert touched(lambda x: (x * 2).masked_fill(x > 0, sentinel).add(1).softmax(-1).mul(3)) == {
        "masked_fill": "masked_fill", "add": "masked_fill", "softmax": "masked_fill",
    }  # fmt: skip


@pytest.mark.parametrize("number", [-1e9, 1e29, 0.0, float("nan")], ids=str)
def test_numbers_that_are_none(number: float) -> None:
    """An ordinary number, large as it may be, is no sentinel."""
    assert touched(lambda x: x.masked_fill(x > 0, number).softmax(-1)) == {}


def test_where_with_a_number() -> None:
    """``where`` makes a sentinel of a scalar, or of a literal that tracing lifted to a constant."""
    assert touched(lambda x: torch.where(x > 0, x, float("-inf")).softmax(-1) + 1).keys() == {
        "where", "softmax",
    }  # fmt: skip
    assert touched(lambda x: torch.where(x > 0, x, torch.tensor(LOWEST)).softmax(-1) + 1) == {
        "where": "lifted_tensor_0", "softmax": "lifted_tensor_0",
    }  # fmt: skip


def test_mask_times_lowest_number() -> None:
    """An additive mask that is computed from a mask of zeros and ones."""
    found = touched(lambda x, keep: (x + (1.0 - keep) * LOWEST).softmax(-1) @ x.T, ROW, MASK.float())
    assert found == {"mul": "mul", "add": "mul", "softmax": "mul"}


class Causal(nn.Module):  # type: ignore[misc]  # torch is not typed
    """Scores with an additive mask in a buffer."""

    def __init__(self, lowest: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("mask", torch.tensor([0, lowest, 0, 0]).to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear((self.linear(x) + self.mask).softmax(-1))


def test_additive_mask_in_a_buffer() -> None:
    """The operators around the mask are touched, the linear layers before and behind are not."""
    assert touched(Causal(float("-inf"))) == {"add": "mask", "softmax": "mask"}
    assert touched(Causal(LOWEST)) == {"add": "mask", "softmax": "mask"}
    assert touched(Causal(-1e4)) == {}


def test_buffers_that_hold_none() -> None:
    """Integers and an empty tensor hold no sentinel."""
    assert touched(Causal(-(2**31), torch.int64)) == {}
    held = torch.empty(0, 4)
    assert touched(lambda x: torch.cat([x, held])) == {}


@pytest.mark.parametrize(
    "bound",
    [
        lambda x: x.softmax(-1),
        lambda x: x.sigmoid(),
        lambda x: x.tanh(),
        lambda x: x.clamp(-8, 8),
        lambda x: F.hardtanh(x),
        lambda x: F.relu6(x),
        lambda x: F.hardsigmoid(x),
        lambda x: x.exp(),
        lambda x: x > 0,
        lambda x: x.isneginf(),
    ],
    ids=["softmax", "sigmoid", "tanh", "clamp", "hardtanh", "relu6", "hardsigmoid", "exp", "gt", "isneginf"],
)
def test_what_bounds(bound: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """The operator that bounds reads a sentinel, so it is touched; what reads its result is not."""
    found = touched(lambda x: bound(x.masked_fill(x > 0, LOWEST)).logical_not())
    assert set(found.values()) == {"masked_fill"}
    assert len(found) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.log_softmax(-1),
        lambda x: x.clamp(min=LOWEST),
        lambda x: F.hardtanh(x, LOWEST, 8),
        lambda x: x.abs(),
        lambda x: x.view(-1),
        lambda x: torch.cat([x, x]),
        lambda x: x.split(1)[1],
    ],
    ids=["log_softmax", "clamp_at_lowest", "hardtanh_at_lowest", "abs", "view", "cat", "split"],
)
def test_what_does_not_bound(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """The logarithm of 0 is a sentinel again, and so is one that was clipped at another one."""
    found = touched(lambda x: function(x.masked_fill(x > 0, LOWEST)).mul(2))
    assert found["mul"] == "masked_fill"


def test_clipping_ordinary_numbers_at_a_sentinel() -> None:
    """Nothing comes out that did not go in."""
    assert touched(lambda x: x.clamp(min=LOWEST).mul(2)).keys() == {"clamp"}


def test_bounded_elsewhere() -> None:
    """One reader that bounds does not clear the others."""
    found = touched(lambda x: (lambda m: (m.softmax(-1) + 1, m + 2))(x.masked_fill(x > 0, LOWEST)))
    assert found.keys() == {"masked_fill", "softmax", "add_1"}


def test_first_source_is_told() -> None:
    """Where two sentinels meet, the operator's first operand says where it came from."""
    found = touched(lambda x: x.masked_fill(x > 0, LOWEST) + x.masked_fill(x < 0, float("inf")))
    assert found["add"] == "masked_fill"


def test_graph_is_not_changed() -> None:
    """The walk is pure."""
    module: fx.GraphModule = graph_of(Causal(LOWEST), ROW)
    before = str(module.graph)
    nodes_with_sentinels(module)
    assert str(module.graph) == before
