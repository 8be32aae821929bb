"""What the tests of the command line share: a small network and how a call ended."""

from __future__ import annotations

from collections.abc import Callable

import attrs

Cli = Callable[..., "Outcome"]
BACKEND = "xnnpack_like"
NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, image):
        y = torch.relu(self.stem(image))
        scores = self.head(y.mean((2, 3)))
        return {"scores": scores, "order": torch.cumsum(scores, 1)}

def net():
    torch.manual_seed(0)
    print("this goes to stderr")
    return Net().eval()

def inputs():
    return (torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)),)

def build():
    return net(), inputs()

def batches():
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(1, 3, 8, 8, generator=generator),) for _ in range(8)]

def rows():
    return (torch.randn(2, 3, 8, 8),)

def shapes():
    return ({0: torch.export.Dim("rows", min=1, max=8)},)

def nothing():
    return None
"""


@attrs.frozen
class Outcome:
    """How a call of the command ended."""

    code: int
    out: str
    err: str
