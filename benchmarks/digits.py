"""Owns the labelled benchmark: a small convolutional network, trained here on scikit-learn's 8×8 digits."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import torch
from torch import nn

__all__ = ["DigitsNet", "held_out", "train_set", "trained"]

_CACHE = Path(__file__).parent / "out"
_HELD_OUT = 360
_EPOCHS = 30


class DigitsNet(nn.Module):
    """Float32 digits (N, 1, 8, 8) in 0..1 to ten scores (N, 10): stem, depthwise residual block, head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.Hardswish()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), nn.BatchNorm2d(24), nn.Hardswish()
        )
        self.pointwise = nn.Sequential(nn.Conv2d(24, 24, 1, bias=False), nn.BatchNorm2d(24))
        self.down = nn.Sequential(
            nn.Conv2d(24, 48, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(48), nn.Hardswish()
        )
        self.head = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.pointwise(self.depthwise(x))
        x = self.down(x)
        return self.head(x.mean(dim=(2, 3)))


@functools.cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    """All 1,797 digits in one fixed random order: float32 (1797, 1, 8, 8) in 0..1, and int64 labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return pixels[order], torch.tensor(labels)[order]


def train_set() -> tuple[torch.Tensor, torch.Tensor]:
    """The 1,437 digits that training and calibration may see, and their labels."""
    pixels, labels = _digits()
    return pixels[_HELD_OUT:], labels[_HELD_OUT:]


def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    """The 360 digits that only evaluation sees, and their labels."""
    pixels, labels = _digits()
    return pixels[:_HELD_OUT], labels[:_HELD_OUT]


def _train(model: DigitsNet) -> None:
    pixels, labels = train_set()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    steps = _EPOCHS * -(-len(labels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    model.train()
    # whoever asks for the network may be evaluating, without gradients
    with torch.enable_grad():
        for _ in range(_EPOCHS):
            for batch in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(pixels[batch]), labels[batch]).backward()
                optimizer.step()
                schedule.step()


def trained() -> DigitsNet:
    """The network with trained weights, in eval mode; trained once, then read from ``benchmarks/out``."""
    # The key covers this file and torch: another network, recipe or generator never reads old weights.
    key = hashlib.sha256(Path(__file__).read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    path = _CACHE / f"digits-{key}.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DigitsNet()
        if path.exists():
            model.load_state_dict(torch.load(path, weights_only=True))
        else:
            _train(model)
            _CACHE.mkdir(exist_ok=True)
            torch.save(model.state_dict(), path)
    return model.eval()
