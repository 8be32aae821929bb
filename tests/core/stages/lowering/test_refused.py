"""What the toolchain refuses is named, with its line and without a dump of a graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop

import quanthost
from quanthost.errors import LoweringError


class Loop(nn.Module):
    """A loop whose length depends on data."""

    def forward(self, x: Tensor) -> Tensor:
        _, y = while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (torch.tensor(0), x))
        return y


class Repeats(nn.Module):
    """As many rows as the data says."""

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        return torch.repeat_interleave(x, counts)


class Cut(nn.Module):
    """As many columns as the data says."""

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        return x[:, : count.item()]


@pytest.mark.parametrize("backend", ["int8_reference", "xnnpack_like"])
@pytest.mark.parametrize(
    ("model", "inputs", "seen", "line"),
    [
        (Loop(), (torch.ones(3),), "while_loop", 18),
        (Repeats(), (torch.ones(3), torch.tensor([1, 2, 3])), "repeat_interleave", 26),
        (Cut(), (torch.ones(3, 5), torch.tensor(3)), "item", 33),
    ],
    ids=["loop", "repeats", "cut"],
)
def test_refusal(
    model: nn.Module, inputs: tuple[Tensor, ...], seen: str, line: int, backend: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The operator, its line and what to do, in a few lines; nothing else on standard error."""
    with pytest.raises(LoweringError) as caught:
        quanthost.quantize(model, inputs, backend, "fp32")

    text = str(caught.value)
    assert seen in text.splitlines()[0]
    assert f"test_refused.py:{line}" in text
    assert len(text) < 800
    assert "graph()" not in text
    assert capfd.readouterr().err == ""
