"""Whole networks: run, equal to their q/dq form, small, decided, and shared with another backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kit import Proof, prove
from torch import Tensor, nn
from torch.export import Dim

import quanthost
from quanthost.values import Cause, Verdict
from quanthost_int8_reference.backend import backend

pytestmark = pytest.mark.slow


class _Residual(nn.Module):
    """Two blocks of convolutions beside a shortcut, with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 8, 3, padding=1, groups=8))
            for _ in range(2)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x.mean((2, 3)))


class _Attention(nn.Module):
    """Two heads, written out, with a shortcut and a feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 48)
        self.merge = nn.Linear(16, 16, bias=False)
        self.feed = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.reshape(2, 6, 2, 8).transpose(1, 2) for part in self.project(x).split(16, dim=-1)
        )
        weights = (query @ key.transpose(-1, -2) * 8**-0.5).softmax(-1)
        x = x + self.merge((weights @ value).transpose(1, 2).reshape(2, 6, 16))
        return x + self.feed(x)


def _digits() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.Hardswish(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10), nn.Softmax(-1)),
    )


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64), nn.Tanh(), nn.Linear(64, 4))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "digits": (_digits, (2, 1, 8, 8)),
    "perceptron": (_perceptron, (4, 64)),
    "residual": (_Residual, (1, 3, 8, 8)),
    "attention": (_Attention, (2, 6, 16)),
}


def _network(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network in evaluation and inputs for it; batch norms have statistics of their own."""
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval(), (torch.randn(shape),)


def _proof(name: str, recipe: str, placement: str = "all") -> Proof:
    model, inputs = _network(name)
    others = [tuple(x * 1.5 for x in inputs)]
    return prove(model, inputs, backend=backend, recipe=recipe, placement=placement, others=others)


@pytest.fixture(scope="module", params=list(NETWORKS))
def static(request: pytest.FixtureRequest) -> Proof:
    """A network in ``int8_static``, integer wherever the table has a row."""
    return _proof(request.param, "int8_static")


def test_the_runtime_has_the_bits_of_the_qdq_form(static: Proof) -> None:
    """0 LSB between runtime and eager torch, on calibrated inputs and beyond, of a result that varies."""
    assert {output.lsb for output in static.outputs} == {0.0}
    assert min(output.levels for output in static.outputs) > 3


def test_the_results_are_those_of_the_model(static: Proof) -> None:
    """At least 20 dB on what calibration saw."""
    assert static.runs[0][0].sqnr > 20.0


def test_each_operator_is_quantized(static: Proof) -> None:
    """Nothing of these networks stays float, and each decision has its reason, row and backend."""
    kept = [d for d in static.decisions if d.verdict is not Verdict.FOLDED]

    assert [(d.operator, d.reason) for d in kept if d.verdict is not Verdict.QUANTIZED] == []
    assert {d.backend for d in kept} == {"int8_reference"}
    assert all(d.reason and d.placement for d in static.decisions)


def test_nothing_is_delegated(static: Proof) -> None:
    """No piece, no delegate in the bytes, and every decision says that it is not delegated."""
    assert static.program.record.pieces == ()
    assert {d.delegated for d in static.decisions} == {False}
    assert b"XnnpackBackend" not in static.program.buffer


def test_by_cost_what_gains_nothing_stays_float() -> None:
    """Between two products, scaling and softmax stay float; each says why, and the runtime agrees to 1e-6."""
    proof = _proof("attention", "int8_static", "cost")
    kept = {d.operator: d.cause for d in proof.decisions if d.verdict is Verdict.FLOAT}

    assert kept.keys() >= {"aten.mul.Tensor", "aten.softmax.int"}
    assert set(kept.values()) == {Cause.COST}
    assert max(output.relative for output in proof.outputs) < 1e-6


def test_unsigned_activations() -> None:
    """The digits network with uint8 activations: 0 LSB, zero points of unsigned ranges."""
    proof = _proof("digits", "uint8_static")
    (entry,) = proof.program.record.quantized_inputs
    (result,) = proof.program.record.quantized_outputs

    assert {output.lsb for output in proof.outputs} == {0.0}
    assert (entry.quant_min, entry.quant_max) == (0, 255)
    assert (result.scale, result.zero_point, result.quant_min, result.quant_max) == (1 / 256, 0, 0, 255)


def test_a_dynamic_batch() -> None:
    """Batches of one, two and five images through one program, 0 LSB each; nothing stays float for it."""
    model, inputs = _network("digits")
    proof = prove(
        model, inputs, backend=backend, recipe="int8_static", placement="all",
        dynamic_shapes=({0: Dim("batch", min=1, max=8)},),
        others=[(torch.randn(count, 1, 8, 8),) for count in (1, 5)],
    )  # fmt: skip

    assert [len(run[0].runtime) for run in proof.runs] == [2, 1, 5]
    assert {output.lsb for output in proof.outputs} == {0.0}
    assert all(d.verdict is not Verdict.FLOAT for d in proof.decisions)


def test_weights_are_stored_as_int8_and_biases_as_int32() -> None:
    """The program holds the very integers: weights round(w / s_c), biases round(b / (s_input · s_c))."""
    model, _ = _network("perceptron")
    program = _proof("perceptron", "int8_static").program
    layer = model[0]
    scale = layer.weight.detach().abs().amax(1) / 127
    integers = torch.round(layer.weight.detach() / scale[:, None]).to(torch.int8)
    entry = program.record.quantized_inputs[0].scale
    biases = torch.round(layer.bias.detach() / (torch.tensor(entry) * scale)).to(torch.int32)

    assert integers.numpy().tobytes() in program.buffer
    assert biases.numpy().tobytes() in program.buffer
    assert layer.weight.detach().numpy().tobytes() not in program.buffer


def test_the_float_recipe_quantizes_nothing() -> None:
    """``fp32`` keeps the model's values (1e-5 of the largest) and each decision names the recipe."""
    proof = _proof("perceptron", "fp32")

    assert max(output.relative for output in proof.outputs) < 1e-5
    assert {d.cause for d in proof.decisions} == {Cause.RECIPE}


def test_an_int8_program_is_less_than_half_of_the_float_one() -> None:
    """Weights take a quarter of the room, and the added operators do not eat that up."""
    recipes = ("fp32", "int8_static", "int8_weight_only")
    whole, static, weight_only = (len(_proof("perceptron", r).program.buffer) for r in recipes)

    assert static < whole / 2.5
    assert weight_only < whole / 2.5


def test_what_the_preferred_backend_claims_is_closed() -> None:
    """XNNPACK's delegate takes convolutions and linear layers; pools and softmax are left to this backend."""
    model, inputs = _network("digits")
    captured = quanthost.capture(model, inputs)
    backends = ["xnnpack_like", "int8_reference"]
    prepared = quanthost.prepare(captured, backends, "int8_static", placement="all")
    converted = quanthost.convert(quanthost.calibrate(prepared, [inputs]))
    program = quanthost.lower(converted)
    owners = {d.operator: (d.backend, d.delegated) for d in program.decisions}
    lsb = program.record.quantized_outputs[0].scale

    assert owners["aten.conv2d.default"] == owners["aten.linear.default"] == ("xnnpack_like", True)
    assert owners["aten.avg_pool2d.default"][0] == owners["aten.softmax.int"][0] == "int8_reference"
    assert {piece.delegate for piece in program.record.pieces} == {"XnnpackBackend"}
    # the delegate's convolutions round in integers, and may differ in the last place
    assert float((program.run(*inputs) - converted.module(*inputs)).abs().max()) <= lsb


class _Poles(nn.Module):
    """Reciprocals of numbers that are zero once they are quantized, one of them behind a view and a bound."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        square = x.square()
        return square.reciprocal(), square.rsqrt(), 1.0 / square, (x / square).reshape(-1).relu()


def test_infinities_saturate_at_the_right_end() -> None:
    """The portable kernel would make the least integer of them."""
    x = torch.linspace(-1.0, 1.0, 64)[:, None]
    proof = prove(_Poles().eval(), [x], backend=backend, recipe="int8_static", placement="all")

    assert {output.lsb for output in proof.outputs} == {0.0}
    for output in proof.runs[0]:
        assert output.runtime.max() > 0
        assert bool(torch.isfinite(output.runtime).all())


def test_the_integer_form_lowers_where_all_is_float() -> None:
    """The program of what is quantized nowhere is the float model's."""
    x = torch.linspace(0.5, 1.0, 8)[:, None]
    prepared = quanthost.prepare(quanthost.capture(_Poles().eval(), (x,)), "int8_reference")
    program = quanthost.lower(quanthost.convert(quanthost.calibrate(prepared, [x]), "integer"))

    assert {decision.verdict for decision in program.decisions} == {Verdict.FLOAT}
    torch.testing.assert_close(tuple(program.run(x)), _Poles()(x))
