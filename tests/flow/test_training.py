"""A model trained with quantization by the user's own loop, to the program, and the module it came from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from proof import BACKEND, rand, sqnr
from torch import nn

import quanthost
from quanthost.graph.operators import operator_name
from quanthost.stages.records import PreparedModel


class Net(nn.Module):
    """Batch norm behind a convolution and behind a ReLU, dropout, and a buffer that forward reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.body, self.drop = nn.Conv2d(8, 8, 3), nn.Dropout(0.2)
        self.head = nn.Linear(8, 2)
        self.register_buffer("shift", torch.full((1, 3, 1, 1), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm(self.stem(x + self.shift)))
        y = F.relu(self.body(y)).mean((2, 3))
        made: torch.Tensor = self.head(self.drop(y))
        return made


def images(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, in which the second class is brighter at the left; (16, 3, 10, 10) and (16,)."""
    labels = torch.arange(16) % 2
    x = rand(16, 3, 10, 10, seed=seed)
    x[:, :, :, :5] += labels[:, None, None, None] * 1.5
    return x, labels


def train(module: nn.Module, seeds: range) -> list[float]:
    """The loss of each step."""
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    losses = []
    for seed in seeds:
        x, labels = images(seed)
        optimizer.zero_grad()
        loss = F.cross_entropy(module(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    after = module.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


@pytest.fixture(scope="module")
def model() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def fresh(model: Net) -> PreparedModel:
    captured = quanthost.capture(model, images(0)[0], train=True)
    return quanthost.prepare(captured, BACKEND, qat=True)


@pytest.fixture(scope="module")
def trained(fresh: PreparedModel) -> tuple[PreparedModel, list[float]]:
    """Eighty steps."""
    torch.manual_seed(0)
    return fresh, train(fresh.module, range(80))


def test_no_memory_is_shared(model: Net, fresh: PreparedModel) -> None:
    """Neither with the model nor with the captured program, which can be prepared again."""
    program = fresh.captured.exported
    theirs = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    theirs |= {tensor.untyped_storage().data_ptr() for tensor in program.state_dict.values()}
    ours = [*fresh.module.parameters(), *fresh.module.buffers()]
    assert not theirs & {tensor.untyped_storage().data_ptr() for tensor in ours if tensor.numel()}


def test_training_leaves_the_model_alone() -> None:
    """Weights, statistics, gradients and mode, in a training loop that steps all parameters."""
    model = Net().eval()
    before = state(model)
    captured = quanthost.capture(model, images(0)[0], train=True)
    held = {name: tensor.clone() for name, tensor in captured.exported.state_dict.items()}
    module = quanthost.prepare(captured, BACKEND, qat=True).module
    own = state(module)
    train(module, range(3))
    assert not same(module, own)
    assert same(model, before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(part.training for part in model.modules())
    assert all(torch.equal(captured.exported.state_dict[name], held[name]) for name in held)
    # and the other way round: who trains the model on does not touch what is prepared
    own = state(module)
    train(model.train(), range(3))
    assert same(module, own)


def test_training_learns(trained: tuple[PreparedModel, list[float]]) -> None:
    """Through fake quantize, batch norm and dropout."""
    _, losses = trained
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_a_trained_model_becomes_a_program(model: Net, trained: tuple[PreparedModel, list[float]]) -> None:
    """Norm folded, dropout gone, everything an integer kernel; it classifies as the trained graph does."""
    prepared, _ = trained
    before = state(prepared.module)
    converted = quanthost.convert(prepared)
    program = quanthost.lower(converted)
    assert same(prepared.module, before)
    names = {operator_name(node) for node in converted.module.graph.nodes if node.op == "call_function"}
    assert not [name for name in names if "batch_norm" in name or "dropout" in name]
    assert program.record.outside == ()
    assert program.record.qat
    right = 0
    for seed in range(100, 104):
        x, labels = images(seed)
        wanted, got = converted.module(x), program.run(x)
        assert sqnr(wanted, got) > 35
        right += int((got.argmax(1) == labels).sum())
    assert right >= 0.9 * 64
    assert same(model, state(Net()))
    # the graph is still one to train, for a program after each epoch
    train(prepared.module, range(80, 82))
    assert not same(prepared.module, before)
