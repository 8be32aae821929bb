"""Small networks, their data, and measures that the tests of the flow share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

import quanthost
from quanthost.stages.records import CalibratedModel, ConvertedModel, PreparedModel
from quanthost.toolchain.observers import RangeObserver

BACKEND = "xnnpack_like"


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(count: int = 4, *, size: int = 8) -> list[torch.Tensor]:
    """``count`` batches of one image, float32 ``[1, 3, size, size]``."""
    return [rand(1, 3, size, size, seed=seed) for seed in range(count)]


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode, with weights and batch norm statistics that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            bound = max(parameter[0].numel(), 1) ** -0.5 if parameter.dim() > 1 else 0.5
            parameter.uniform_(-bound, bound, generator=generator)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.running_mean.uniform_(-0.5, 0.5, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """While entered, torch has so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Net(nn.Module):
    """Convolution, batch norm, ReLU, average, linear: everything of it can be int8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        seeded(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.stem(image))).mean((2, 3))
        scores: torch.Tensor = self.head(features)
        return scores


class Other(Net):
    """``Net`` with other weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.head.weight.add_(0.5)


class Pair(nn.Module):
    """Two inputs, one of which may be given by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(3, 4)
        seeded(self)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.left(a)) + self.right(b)


def sqnr(wanted: torch.Tensor, got: torch.Tensor) -> float:
    """Signal to quantization noise, 10·log10(Σ wanted² / Σ (wanted - got)²), in dB."""
    true = wanted.detach().double()
    noise = (true - got.detach()).square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(true.square().sum() / noise))


def prepared(model: nn.Module | None = None, inputs: Any = None, **options: Any) -> PreparedModel:
    """``Net`` (or a model with its inputs) after ``prepare``."""
    captured = quanthost.capture(
        Net() if model is None else model, images(1)[0] if inputs is None else inputs
    )
    return quanthost.prepare(captured, BACKEND, **options)


def calibrated(**options: Any) -> CalibratedModel:
    """``Net`` after ``calibrate``."""
    return quanthost.calibrate(prepared(**options), images())


def converted(**options: Any) -> ConvertedModel:
    """``Net`` after ``convert``."""
    return quanthost.convert(calibrated(**options))


@contextlib.contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Fail where graph, tensors, modes, gradients or observers of a module differ afterwards."""
    before = [_picture(module) for module in modules]
    yield
    for earlier, module in zip(before, modules):
        now = _picture(module)
        assert now.keys() == earlier.keys()
        for name, value in earlier.items():
            same = torch.equal(now[name], value) if isinstance(value, torch.Tensor) else now[name] == value
            assert same, f"{name} was {value}, is {now[name]}"


def _picture(module: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in module.named_modules():
        found[f"{name} trains"] = part.training
        if isinstance(part, fx.GraphModule):
            found[f"{name} graph"] = [
                (n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in part.graph.nodes
            ]
            found[f"{name} code"] = part.code
        if isinstance(part, RangeObserver):
            found[f"{name} saw"] = (part.batches, str(part.statistics), part.chosen)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        found[f"{name} value"] = tensor.detach().clone()
        found[f"{name} gradient"] = (tensor.requires_grad, tensor.grad is None)
    return found
