"""Small networks with seeded weights, of the kinds that people quantize."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NETWORKS"]

_Network = tuple[nn.Module, tuple[Tensor, ...]]
"""A module and its inputs."""


class _Residual(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.block(x))
        logits: Tensor = self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


class _InvertedResidual(nn.Module):  # type: ignore[misc]
    """Inverted residuals with depthwise convolutions and squeeze-and-excite."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Hardswish())
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1), nn.BatchNorm2d(24), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.ReLU6())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 6, 1), nn.ReLU(), nn.Conv2d(6, 24, 1)
        )
        self.project = nn.Conv2d(24, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.depthwise(self.expand(x))
        x = x + self.project(inner * torch.sigmoid(self.gate(inner)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class _Transformer(nn.Module):  # type: ignore[misc]
    """A pre-norm transformer block with two heads; attention is written out."""

    def __init__(self, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norms[0](x)
        query, key, value = (self._split(part(normed)) for part in (self.query, self.key, self.value))
        weights = torch.softmax(query @ key.transpose(-1, -2) / self.size**0.5, -1)
        mixed = (weights @ value).transpose(1, 2).reshape(x.shape)
        x = x + self.out(mixed)
        result: Tensor = x + self.feed(self.norms[1](x))
        return result


class _TwoBranches(nn.Module):  # type: ignore[misc]
    """Two inputs through one convolution, then concatenated; the network reads one of its two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 6, 3, padding=1)
        self.mix = nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([torch.relu(self.shared(left)), torch.relu(self.shared(right))], 1)
        mixed = F.leaky_relu(self.mix(joined), 0.1)
        return mixed, self.head(mixed.mean((2, 3)))


class _SharedConvolution(nn.Module):  # type: ignore[misc]
    """One convolution for two inputs: its packed constants must be right for both."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 4, 3)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return self.shared(left), self.shared(right)


def _image(*shape: int) -> Tensor:
    return torch.randn(shape)


_BUILDERS: dict[str, Callable[[], _Network]] = {
    "residual": lambda: (_Residual(), (_image(2, 3, 24, 24),)),
    "inverted_residual": lambda: (_InvertedResidual(), (_image(2, 3, 20, 20),)),
    "transformer": lambda: (_Transformer(), (_image(2, 6, 32),)),
    "twice": lambda: (_SharedConvolution(), (_image(1, 3, 8, 8), 3 * _image(1, 3, 8, 8))),
    "joined": lambda: (_TwoBranches(), (_image(1, 3, 10, 10), _image(1, 3, 10, 10))),
}


def _seed(build: Callable[[], _Network]) -> Callable[[], _Network]:
    def build_seeded() -> _Network:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module, inputs = build()
            return module.eval(), inputs

    return build_seeded


NETWORKS: Mapping[str, Callable[[], _Network]] = MappingProxyType(
    {name: _seed(build) for name, build in _BUILDERS.items()}
)
"""By name; each call builds the network again, with the same weights and inputs."""
