"""A program that gains nothing says so."""

from __future__ import annotations

import warnings

import pytest
import torch
from flow_nets import rand
from torch import Tensor, nn

import quanthost
from quanthost.values import Finding, FindingKind, Override

pytestmark = pytest.mark.slow


def findings(
    model: nn.Module, x: Tensor, recipe: str, overrides: tuple[Override, ...] = ()
) -> tuple[Finding, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", quanthost.QuanthostWarning)
        program = quanthost.quantize(model.eval(), (x,), "xnnpack_like", recipe, [(x,)], overrides)
        return program.record.findings


@pytest.mark.parametrize("recipe", ["int8_static", "int8_dynamic"])
def test_half_precision_stays_in_float(recipe: str) -> None:
    """The reason names the dtype, and the remedy is a float32 model."""
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU()).half()
    [finding] = findings(model, rand(4, 16).half(), recipe)

    assert finding.kind is FindingKind.NOTHING_QUANTIZED
    assert "input is float16" in finding.seen
    assert "model.float()" in finding.remedy


def test_weights_that_are_converted_in_each_run() -> None:
    """Weights alone are integers, and the delegate computes in float."""
    [finding] = findings(nn.Linear(16, 8), rand(4, 16), "int8_weight_only")

    assert finding.kind is FindingKind.UNPACKED_WEIGHTS
    assert "each run converts 1 weight to float" in finding.seen


class Recurrent(nn.Module):
    """A layer that is unrolled."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])


def test_a_program_larger_than_the_float_weights() -> None:
    """Each step of the sequence has operators of its own."""
    seen = findings(Recurrent(), rand(1, 24, 8), "int8_dynamic")

    assert [finding.kind for finding in seen] == [FindingKind.LARGER]
    assert "the float weights have 2 kB" in seen[0].seen


class Words(nn.Module):
    """A table of words that is larger than the layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(6000, 64), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.words(x))


def test_a_large_table_in_float() -> None:
    """It is named with the recipe that takes it, and the override works."""
    words = torch.arange(8).reshape(1, 8)
    [finding] = findings(Words(), words, "int8_dynamic")

    assert finding.kind is FindingKind.LARGE_IN_FLOAT
    assert finding.seen.startswith("words stays in float, 2 MB of the program's 2 MB: ")
    assert finding.remedy.endswith("--override node=embedding,recipe=int8_weight_only")
    override = (Override(node="embedding", recipe="int8_weight_only"),)
    kinds = [each.kind for each in findings(Words(), words, "int8_dynamic", override)]
    assert FindingKind.LARGE_IN_FLOAT not in kinds


@pytest.mark.parametrize("recipe", ["int8_static", "int8_dynamic", "fp32"])
def test_a_program_that_gains(recipe: str) -> None:
    """Nothing is said."""
    assert findings(nn.Sequential(nn.Linear(64, 64), nn.ReLU()), rand(4, 64), recipe) == ()
