"""Folding batch norms keeps what the network computes, whoever reads the layer and its weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from sample_graphs import graph_of, nodes_of
from torch import nn

from quanthost.graph.fold import fold_batch_norms, not_trainable
from quanthost.graph.operators import operator_name

IMAGE = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def norm(features: int, *, rank: int = 2, **options: bool) -> nn.Module:
    """A batch norm that does something."""
    made: nn.Module = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[rank](features, **options)
    with torch.no_grad():
        for name, low in (("weight", 0.5), ("bias", -1.0), ("running_mean", -1.0), ("running_var", 0.5)):
            tensor = getattr(made, name)
            if tensor is not None:
                tensor.uniform_(low, 1.5)
    return made


class Net(nn.Module):
    """Layers and norms of four channels for a forward that a test gives."""

    def __init__(self, body: Callable[[Net, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        self.linear = nn.Linear(6, 6)
        self.norm, self.other, self.rows = norm(4), norm(4), norm(6, rank=1)
        self.plain = nn.BatchNorm2d(4, affine=False)
        self.instant = norm(4, track_running_stats=False)
        self.register_buffer("kernel", torch.randn(4, 4, 1, 1))
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self, x)


def check(model: nn.Module, x: torch.Tensor = IMAGE, *, left: int) -> list[str]:
    """The graph gives what the model gives, with so many norms left; the names of its constants."""
    module = graph_of(model, x)
    fold_batch_norms(module)
    assert torch.allclose(module(x), model.eval()(x), atol=1e-5)
    assert len([n for n in module.graph.nodes if "batch_norm" in operator_name(n)]) == left
    return [str(node.target) for node in module.graph.nodes if node.op == "get_attr"]


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[[], nn.Module]]] = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), (2, 4, 6), lambda: norm(6, rank=1)),
    "conv2d without bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), (2, 4, 6, 6), lambda: norm(6)),
    "conv2d padded by name": (lambda: nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 6, 6), lambda: norm(6)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 3), (2, 4, 3, 3, 3), lambda: norm(6, rank=3)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3), (2, 4, 6, 6), lambda: norm(6)),
    "transposed in groups": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 6, 6), lambda: norm(6)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), (2, 4, 6), lambda: norm(6, rank=1)),
    "linear": (lambda: nn.Linear(4, 6), (2, 4), lambda: norm(6, rank=1)),
}


@pytest.mark.parametrize(("layer", "shape", "follows"), LAYERS.values(), ids=LAYERS.keys())
def test_layers(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], follows: Callable[[], nn.Module]
) -> None:
    """Each takes the norm behind it."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    model = nn.Sequential(layer(), follows())
    check(model.eval(), x, left=0)


FOLDED: dict[str, Callable[[Net, torch.Tensor], torch.Tensor]] = {
    "a norm without weights": lambda s, x: s.plain(s.layer(x)),
    "one layer before two norms": lambda s, x: s.norm(s.layer(x)) + s.other(s.layer(x * 2)),
    "layer and norm called twice": lambda s, x: s.norm(s.layer(s.norm(s.layer(x)))),
    "a layer called without its norm too": lambda s, x: s.norm(s.layer(s.layer(x))) + s.layer(x),
    "a weight that is a buffer": lambda s, x: s.norm(F.conv2d(x, s.kernel)),
}


@pytest.mark.parametrize("body", FOLDED.values(), ids=FOLDED.keys())
def test_shared_weights(body: Callable[[Net, torch.Tensor], torch.Tensor]) -> None:
    """A layer gets weights of its own, and others keep theirs."""
    check(Net(body).eval(), left=0)


LEFT: dict[str, Callable[[Net, torch.Tensor], torch.Tensor]] = {
    "another reader of the layer": lambda s, x: (lambda y: s.norm(y) * 2 + y)(s.layer(x)),
    "a weight that is computed": lambda s, x: s.norm(F.conv2d(x, s.kernel / s.kernel.norm())),
    "rows of rows": lambda s, x: s.norm(s.linear(x)),
    "no layer before it": lambda s, x: s.norm(x.relu()),
    "an input before it": lambda s, x: s.norm(x),
    "statistics of the batch": lambda s, x: s.instant(s.layer(x)),
}


@pytest.mark.parametrize("body", LEFT.values(), ids=LEFT.keys())
def test_norms_that_stay(body: Callable[[Net, torch.Tensor], torch.Tensor]) -> None:
    """Where folding would change what is computed, nothing is folded."""
    check(Net(body).eval(), left=1)


def test_decomposed_programs() -> None:
    """The operator that ``run_decompositions`` makes of a norm is folded too."""
    model = nn.Sequential(nn.Conv2d(4, 6, 3), norm(6)).eval()
    exported = torch.export.export(model, (IMAGE,)).run_decompositions({})
    module = exported.module(check_guards=False)
    assert len(nodes_of(module, "_native_batch_norm_legit_no_training")) == 1
    fold_batch_norms(module)
    assert nodes_of(module, "_native_batch_norm_legit_no_training") == []
    assert torch.allclose(module(IMAGE), model(IMAGE), atol=1e-5)


def test_gradients_stay_as_they_are() -> None:
    """A folded weight asks for a gradient where the weight did."""
    for wanted in (True, False):
        model = nn.Sequential(nn.Conv2d(4, 6, 3), norm(6)).requires_grad_(wanted)
        module = graph_of(model.eval(), IMAGE)
        fold_batch_norms(module)
        assert {p.requires_grad for p in module.parameters()} == {wanted}


UNTRAINABLE: dict[str, tuple[Callable[[Net, torch.Tensor], torch.Tensor], str]] = {
    "buffer": (FOLDED["a weight that is a buffer"], "its weight is no parameter"),
    "computed": (LEFT["a weight that is computed"], "its weight is no parameter"),
    "shared": (FOLDED["a layer called without its norm too"], "other operators read its weight"),
    "no statistics": (LEFT["statistics of the batch"], "the batch norm keeps no running statistics"),
}


@pytest.mark.parametrize(("body", "reason"), UNTRAINABLE.values(), ids=UNTRAINABLE.keys())
def test_what_cannot_be_trained(body: Callable[[Net, torch.Tensor], torch.Tensor], reason: str) -> None:
    """Layers whose norm would be folded into what others read."""
    assert {why for _, why in not_trainable(graph_of(Net(body), IMAGE))} == {reason}


def test_what_can_be_trained() -> None:
    """A layer with weights of its own and one reader, or several; norms without a convolution."""
    for body in (FOLDED["a norm without weights"], *list(LEFT.values())[2:5]):
        assert not_trainable(graph_of(Net(body), IMAGE)) == []
    grouped = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), norm(6))
    ((_, reason),) = not_trainable(graph_of(grouped, IMAGE))
    assert reason == "it is transposed and has groups"
