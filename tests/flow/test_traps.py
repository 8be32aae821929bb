"""What models of the field do and quantizers stumble over: each is lowered, run, and compared."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from proof import Proof, prove, rand, sqnr
from torch import nn

import quanthost
from quanthost.values import Cause, Verdict

IMAGES = [(rand(1, 3, 8, 8, seed=seed),) for seed in range(4)]
# rounding of single values may differ between torch and the delegate by one step
FAITHFUL = 35.0
GOOD = 28.0


class Between(nn.Module):
    """A convolution, what is asked about, and a convolution."""

    def __init__(self, body: Callable[..., torch.Tensor], *, channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(channels, 4, 3)
        self.body = body

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.last(self.body(self.first(x), *more))
        return made


class Branches(nn.Module):
    """Each body between two convolutions of its own, as branches of one program."""

    def __init__(self, *bodies: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.forms = nn.ModuleList(Between(body) for body in bodies)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [form(x) for form in self.forms]


def hold(proof: Proof) -> None:
    """The program computes what its graph says, and that is near the model."""
    assert proof.fidelity > FAITHFUL
    assert proof.quality > GOOD


def test_expanded_inputs() -> None:
    """A stride of 0: one row in memory, seen several times."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    batches = [(rand(1, 3, 8, 8, seed=seed).expand(2, 3, 8, 8),) for seed in range(4)]
    assert batches[0][0].stride()[0] == 0
    proof = prove(model, batches)
    hold(proof)
    apart = rand(2, 3, 8, 8, seed=9)
    assert sqnr(model(apart), proof.program.run(apart)) > GOOD


def test_expanded_inside() -> None:
    """Expansion is no copy in torch, and one in the program."""
    proof = prove(Between(lambda y: y[:, :1].expand(1, 8, 6, 6)), IMAGES)
    hold(proof)


class Pitch(nn.Module):
    """A pitch estimator on frames of a signal that overlap, narrow: CREPE's order of layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 8, (64, 1), (4, 1)), nn.Conv2d(8, 8, (16, 1))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.head = nn.Linear(64, 12)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        y = frames[:, None, :, None]
        y = F.max_pool2d(self.norms[0](F.relu(self.first(F.pad(y, (0, 0, 30, 30))))), (2, 1), (2, 1))
        y = F.max_pool2d(self.norms[1](F.relu(self.second(F.pad(y, (0, 0, 7, 8))))), (2, 1), (2, 1))
        return torch.sigmoid(self.head(y.permute(0, 2, 1, 3).reshape(-1, 64)))


def test_a_pitch_estimator() -> None:
    """Tall kernels, batch norm behind ReLU, frames that are views of one signal."""
    signals = [rand(192, seed=seed).unfold(0, 128, 32) for seed in range(4)]
    proof = prove(Pitch(), [(frames,) for frames in signals])
    hold(proof)
    assert (proof.pieces, proof.outside) == (1, ())


class Faces(nn.Module):
    """A face detector, narrow: the order of layers of MTCNN's ONet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = ((3, 8, 3), (8, 8, 3), (8, 8, 3), (8, 12, 2))
        self.layers = nn.ModuleList(nn.Conv2d(*size) for size in sizes)
        self.acts = nn.ModuleList(nn.PReLU(n) for n in (8, 8, 8, 12, 16))
        self.dense = nn.Linear(108, 16)
        self.heads = nn.ModuleList(nn.Linear(16, n) for n in (2, 4, 10))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pools = (3, 3, 2)
        for layer, act, pool in zip(self.layers, self.acts, pools):
            x = F.max_pool2d(act(layer(x)), pool, 2, ceil_mode=True)
        x = self.acts[3](self.layers[3](x)).permute(0, 3, 2, 1).contiguous()
        x = self.acts[4](self.dense(x.view(x.shape[0], -1)))
        scores, *boxes = (head(x) for head in self.heads)
        return (*boxes, scores.softmax(1))


def test_a_face_detector() -> None:
    """PReLU behind convolutions and a linear layer, pools that round up, channels turned before the view."""
    proof = prove(Faces(), [(rand(1, 3, 48, 48, seed=seed),) for seed in range(4)])
    hold(proof)
    assert proof.outside == ()


@pytest.mark.parametrize("slopes", ["one", "each"])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_prelu(rank: int, slopes: str) -> None:
    """One slope for all or one for each channel, whatever the rank; the delegate takes it."""
    layers: dict[int, tuple[nn.Module, tuple[int, ...]]] = {
        2: (nn.Linear(6, 8), (4, 6)),
        3: (nn.Conv1d(6, 8, 3), (1, 6, 9)),
        4: (nn.Conv2d(6, 8, 3), (1, 6, 5, 5)),
    }
    torch.manual_seed(rank)
    layer, shape = layers[rank]
    act = nn.PReLU(1 if slopes == "one" else 8)
    with torch.no_grad():
        act.weight.uniform_(-0.5, 0.5)
    proof = prove(nn.Sequential(layer, act), [(rand(*shape, seed=seed),) for seed in range(4)])
    hold(proof)
    assert proof.outside == ()
    assert proof.of("prelu").delegated


HARDSWISH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "x * relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
    "relu6(x + 3) * x / 6": lambda x: F.relu6(x + 3) * x / 6,
    "relu6(3 + x) * x * (1 / 6)": lambda x: F.relu6(3 + x) * x * (1 / 6),
    "x * (relu6(x + 3) / 6)": lambda x: x * (F.relu6(x + 3.0) / 6.0),
    "relu6(x + 3) * (1 / 6) * x": lambda x: F.relu6(x + 3) * (1 / 6) * x,
    "clamp": lambda x: x * torch.clamp(x + 3, 0, 6) / 6,
    "hardtanh": lambda x: x * F.hardtanh(x + 3, 0.0, 6.0) / 6,
    "hardsigmoid": lambda x: F.hardsigmoid(x) * x,
    "the function": F.hardswish,
}


@pytest.fixture(scope="module")
def swishes() -> Proof:
    """Each form between two convolutions, as branches of one program."""
    return prove(Branches(*HARDSWISH.values()), [(image * 3,) for (image,) in IMAGES])


@pytest.mark.parametrize("number", range(len(HARDSWISH)), ids=HARDSWISH.keys())
def test_hardswish_written_out(swishes: Proof, number: int) -> None:
    """It becomes one quantized operator; what it was written with is gone."""
    inside = [d for d in swishes.program.decisions if f"{d.module}." in f"forms.{number}." and d.module]
    rows = [d.row for d in inside if d.verdict is Verdict.QUANTIZED]
    assert rows == ["hardswish"]
    assert all(d.verdict is Verdict.FOLDED for d in inside if d.row is None)


def test_hardswish_runs(swishes: Proof) -> None:
    """In one delegated piece, and near the model."""
    hold(swishes)
    assert (swishes.pieces, swishes.outside) == (1, ())


NO_HARDSWISH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "another shift": lambda x: x * F.relu6(x + 2) / 6,
    "another divisor": lambda x: x * F.relu6(x + 3) / 5,
    "another bound": lambda x: x * F.hardtanh(x + 3, 0.0, 5.0) / 6,
    "another factor": lambda x: (x + 1) * F.relu6(x + 3) / 6,
    "the gate is used again": lambda x: (lambda g: x * g / 6 + g)(F.relu6(x + 3)),
}


def test_what_is_no_hardswish() -> None:
    """A number, a bound or an operand that differs, and it is computed as it is written."""
    proof = prove(Branches(*NO_HARDSWISH.values()), [(image * 3,) for (image,) in IMAGES])
    hold(proof)
    assert "hardswish" not in proof.rows().values()


class SqueezeExcite(nn.Module):
    """A gate for each channel from the mean of the feature map, as in MobileNetV3 and EfficientNet."""

    def __init__(self, gate: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.stem(x))
        gate = self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))
        made: torch.Tensor = self.last(y * gate)
        return made


GATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "relu6(x + 3) / 6": lambda x: F.relu6(x + 3) / 6,
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES.keys())
def test_squeeze_and_excitation(gate: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Pool, two layers, gate and product lie in one delegated piece, all of them integer."""
    proof = prove(SqueezeExcite(gate), IMAGES)
    hold(proof)
    assert (proof.pieces, proof.outside) == (1, ())
    assert [d.node for d in proof.program.decisions if d.verdict is Verdict.FLOAT] == []


@pytest.mark.parametrize("where", ["before", "behind a ReLU", "of rows"])
def test_batch_norm_that_no_convolution_takes(where: str) -> None:
    """Its statistics are those of evaluation, whether a kernel or the runtime computes it."""
    torch.manual_seed(0)
    models: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "before": (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), (1, 3, 8, 8)),
        "behind a ReLU": (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3)), (1, 3, 8, 8),
        ),
        "of rows": (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 4)), (4, 6)),
    }  # fmt: skip
    model, shape = models[where]
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean = rand(part.num_features, seed=1)
            part.running_var = rand(part.num_features, seed=2).abs() + 0.5
    proof = prove(model, [(rand(*shape, seed=seed),) for seed in range(4)])
    hold(proof)
    assert proof.outside == ()


def test_functional_convolution_and_norm() -> None:
    """Weights that are buffers, and functions in the place of modules."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kernel", rand(8, 3, 3, 3) * 0.3)
            for seed, name in enumerate(("offset", "mean", "scale", "shift"), start=1):
                self.register_buffer(name, rand(8, seed=seed) * 0.3)
            self.register_buffer("variance", rand(8, seed=9).abs() + 0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.conv2d(x, self.kernel, self.offset)
            return F.relu(F.batch_norm(y, self.mean, self.variance, self.scale, self.shift))

    proof = prove(Functional(), IMAGES)
    hold(proof)
    assert proof.rows() == {"conv2d": "conv_relu", "relu": "conv_relu"}
    assert proof.of("batch_norm").verdict is Verdict.FOLDED


class Normed(nn.Module):
    """One convolution and two batch norms, in an arrangement that a test gives."""

    def __init__(self, arrange: Callable[[Normed, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        for seed, norm in enumerate((self.norm, self.other)):
            norm.running_mean = rand(3, seed=seed) * 0.5
            norm.running_var = rand(3, seed=seed + 2).abs() + 0.5
        self.arrange = arrange

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.arrange(self, x)


NORMED: dict[str, Callable[[Normed, torch.Tensor], torch.Tensor]] = {
    "two norms": lambda s, x: s.norm(s.layer(x)) + s.other(s.layer(x * 0.5)),
    "a norm once": lambda s, x: s.layer(F.relu(s.norm(s.layer(x)))),
    "the same norm twice": lambda s, x: s.norm(s.layer(F.relu(s.norm(s.layer(x))))),
    "another reader of the convolution": lambda s, x: (lambda y: s.norm(y) * 0.5 + y)(s.layer(x)),
    "a weight that is computed": lambda s, x: s.norm(F.conv2d(x, s.layer.weight / s.layer.weight.norm())),
}


@pytest.mark.parametrize("recipe", ["int8_static", "fp32"])
def test_norms_behind_one_convolution(recipe: str) -> None:
    """Folded into one call of a shared convolution, a norm must not reach the other calls."""

    class All(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(Normed(arrange) for arrange in NORMED.values())

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [net(x) for net in self.nets]

    proof = prove(All(), IMAGES, recipe=recipe)
    hold(proof)
    assert proof.outside == ()


IN_PLACE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "its input is used again": lambda y: F.relu(y, inplace=True) + y,
    "a view of its input is used again": lambda y: (lambda flat: (F.relu_(y), flat)[1])(
        y.view(1, 8, 36)
    ).view(1, 8, 6, 6),
    "part of it is assigned": lambda y: (y[:, :4].fill_(0.25), y)[1],
    "part of it is moved": lambda y: (y[:, :4].copy_(y[:, 4:]), y)[1],
    "one after the other": lambda y: y.add_(1).mul_(0.5).relu_(),
}


@pytest.mark.parametrize("body", IN_PLACE.values(), ids=IN_PLACE.keys())
def test_writes_in_place(body: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Who reads a tensor after it was changed reads the change."""
    hold(prove(Between(body), IMAGES))


def test_lifted_constants() -> None:
    """Tensors that are made in forward, of literals or by functions of none of the inputs."""

    def body(y: torch.Tensor) -> torch.Tensor:
        scale = torch.tensor([0.5, 1.5]).repeat(4).view(1, 8, 1, 1)
        return y * scale + torch.arange(6) * 0.1 - torch.tensor(2.0) + torch.ones(1, 8, 1, 1)

    hold(prove(Between(body), IMAGES))


def test_an_activation_that_is_zero() -> None:
    """A dead layer gets a scale that is a number above zero, and what follows it lives."""
    model = Between(lambda y: y)
    with torch.no_grad():
        model.first.weight.zero_()
        assert model.first.bias is not None
        model.first.bias.zero_()
    proof = prove(model, IMAGES)
    assert proof.fidelity > FAITHFUL
    assert proof.quality > GOOD
    scales = [node.args[1] for node in proof.module.graph.nodes if "quantize_per_tensor" in str(node.target)]
    assert all(isinstance(scale, float) and 1e-6 < scale < 10 for scale in scales)


MASK = torch.rand(1, 8, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.5
ROWS = torch.tensor([3, 0, 5])
INTEGERS: dict[str, tuple[Callable[..., torch.Tensor], torch.Tensor]] = {
    "where": (lambda y, mask: torch.where(mask, y, -y), MASK),
    "masked_fill": (lambda y, mask: y.masked_fill(mask, 0.25), MASK),
    "index": (lambda y, rows: y[:, :, rows], ROWS),
    "index_select": (lambda y, rows: y.index_select(2, rows.abs()), ROWS),
    "gather": (lambda y, rows: y.gather(2, rows.view(1, 1, 3, 1).expand(1, 8, 3, 6)), ROWS),
    "embedding": (lambda y, rows: y[:, :, :3] + F.embedding(rows, torch.eye(6)), ROWS),
}


def test_masks_and_indices() -> None:
    """They are never quantized, and the program takes them as they are."""

    class All(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.forms = nn.ModuleList(Between(body) for body, _ in INTEGERS.values())

        def forward(self, x: torch.Tensor, *given: torch.Tensor) -> list[torch.Tensor]:
            return [form(x, one) for form, one in zip(self.forms, given)]

    given = [one.clone() for _, one in INTEGERS.values()]
    proof = prove(All(), [(image, *given) for (image,) in IMAGES])
    hold(proof)
    assert [item.name for item in proof.program.record.quantized_inputs] == ["x"]


class Attention(nn.Module):
    """One block of a transformer whose mask is made in one of the usual ways."""

    def __init__(self, masked: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.masked = masked

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.reshape(1, 6, 2, 8).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1)
        )
        scores = self.masked(query @ key.transpose(-1, -2) / 8**0.5, mask)
        x = x + self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(1, 6, 16))
        made: torch.Tensor = x + self.down(F.gelu(self.up(x)))
        return made


CAUSAL = torch.ones(6, 6, dtype=torch.bool).tril()
LOWEST = torch.finfo(torch.float32).min
MASKS: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], torch.Tensor]] = {
    "minus infinity, added": (lambda s, m: s + torch.where(m, 0.0, float("-inf")), CAUSAL),
    "lowest number, added": (lambda s, m: s + (1 - m.float()) * LOWEST, CAUSAL),
    "given as numbers": (lambda s, m: s + m, torch.where(CAUSAL, 0.0, LOWEST)),
}


def attended(masked: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], mask: torch.Tensor) -> Proof:
    return prove(Attention(masked), [(rand(1, 6, 16, seed=seed), mask) for seed in range(4)])


@pytest.fixture(scope="module")
def boolean() -> Proof:
    return attended(lambda scores, mask: scores.masked_fill(~mask, float("-inf")), CAUSAL)


def test_boolean_masks(boolean: Proof) -> None:
    """The twin that the others are compared with: what is masked has no weight."""
    hold(boolean)
    reason = boolean.of("masked_fill").reason
    assert boolean.of("masked_fill").cause is Cause.CONSTRAINT
    assert reason == "it handles mask values beyond ±1e30, which come from masked_fill"


@pytest.mark.parametrize(("masked", "mask"), MASKS.values(), ids=MASKS.keys())
def test_additive_masks(
    boolean: Proof, masked: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], mask: torch.Tensor
) -> None:
    """No range has to hold a sentinel beside the scores: within 3 dB of the boolean mask."""
    proof = attended(masked, mask)
    hold(proof)
    assert proof.quality > boolean.quality - 3


def test_a_module_called_twice() -> None:
    """One weight and one bias behind inputs of two scales."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Conv2d(3, 3, 3, padding=1)
            self.head = nn.Linear(3, 3)
            with torch.no_grad():
                self.layer.bias.copy_(torch.tensor([1.0, -1.0, 0.5]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(F.relu(self.layer(x)) * 0.1).mean((2, 3))
            made: torch.Tensor = self.head(self.head(y) * 8)
            return made

    proof = prove(Twice(), IMAGES)
    hold(proof)
    assert proof.outside == ()


@pytest.mark.parametrize("same", [True, False], ids=["one bias", "equal biases"])
def test_layers_that_share_a_bias(same: bool) -> None:
    """Two modules with one parameter: each kernel quantizes it by its own scales."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
            self.last.bias = self.first.bias if same else copy.deepcopy(self.first.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.last(self.first(x) * 0.05)
            return made

    hold(prove(Tied(), [(rand(2, 4, seed=seed),) for seed in range(6)]))


SCALARS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "1 - x": lambda y: 1 - y,
    "2 / x": lambda y: 2 / (y.abs() + 1),
    "2 * x": lambda y: 2 * y,
    "0.5 + x": lambda y: 0.5 + y,
    "rsub with alpha": lambda y: torch.rsub(y, 1, alpha=2),
    "whole numbers": lambda y: y * 3 - 1,
}


def test_numbers_beside_tensors() -> None:
    """On either side of the operator."""
    hold(prove(Branches(*SCALARS.values()), IMAGES))


def last(x: torch.Tensor) -> torch.Tensor:
    return x.to(memory_format=torch.channels_last)


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "to tokens and back": lambda y: (
        y.permute(0, 2, 3, 1).reshape(1, 36, 8).transpose(1, 2).reshape(1, 8, 6, 6)
    ),
    "a view of the order": lambda y: last(y).permute(0, 2, 3, 1).view(1, 36, 8).mT.reshape(1, 8, 6, 6),
    "asked for": lambda y: y.contiguous(memory_format=torch.channels_last).flatten(2).unflatten(2, (6, 6)),
    "there and back": lambda y: last(y).contiguous().view(1, 2, 4, 6, 6).transpose(1, 2).flatten(1, 2),
}


@pytest.mark.parametrize("body", VIEWS.values(), ids=VIEWS.keys())
def test_views_of_channels_last(body: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Model and images in channels-last memory, and views in a row."""
    model = Between(body).to(memory_format=torch.channels_last)
    proof = prove(model, [(last(image),) for (image,) in IMAGES], unseen=IMAGES[:1])
    hold(proof)
    assert proof.outside == ()


@pytest.mark.parametrize("recipe", ["fp32", "int8_dynamic"])
def test_channels_last_without_calibration(recipe: str) -> None:
    """Other recipes read the same weights."""
    model = Between(lambda y: y).to(memory_format=torch.channels_last).eval()
    program = quanthost.quantize(model, last(IMAGES[0][0]), "xnnpack_like", recipe)
    for (image,) in IMAGES:
        assert sqnr(model(image), program.run(last(image))) > GOOD


def test_dynamic_batch_with_views() -> None:
    """Flattening for a classifier keeps the batch, whatever its size."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    batch = torch.export.Dim("batch", min=1, max=8)
    batches = [(rand(count, 3, 8, 8, seed=count),) for count in (2, 8, 8, 5)]
    unseen = [(rand(count, 3, 8, 8, seed=20 + count),) for count in (1, 3, 8, 1)]
    proof = prove(model, batches, unseen=unseen, dynamic_shapes=({0: batch},))
    assert proof.fidelity > FAITHFUL
    assert proof.quality > 24


QUIET = """
import sys, warnings, torch, quanthost
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        y = torch.relu(self.norm(self.layer(x))).mean((2, 3))
        warnings.warn("these weights were renamed")
        return self.head(y.view(1, 4))

x = torch.ones(1, 3, 8, 8)
quanthost.quantize(Net().eval(), x, "xnnpack_like", calibration=[x]).save(sys.argv[1])
quanthost.load(sys.argv[1]).run(x)
"""


def test_messages_in_a_process_of_its_own(tmp_path: Path) -> None:
    """From import to result, the only message is the model's own."""
    command = [sys.executable, "-c", QUIET, str(tmp_path / "net.pte")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    told, *line = done.stderr.splitlines()
    assert told.endswith("UserWarning: these weights were renamed")
    assert len(line) <= 1


def test_traps_are_traps() -> None:
    """The measure sees a bias that was quantized by another layer's scale, or a write that was lost."""
    true: Any = Between(lambda y: y)(IMAGES[0][0])
    lost: Any = Between(lambda y: torch.cat([y[:, :4] * 0 + 0.25, y[:, 4:]], 1))(IMAGES[0][0])
    assert sqnr(true, lost) < 10
