"""What a toolchain must do to be proved: small networks through all stages, both ways, and the commands.

``make test-toolchains`` runs these tests with each release that is supported.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import torch
from proof import rand, sqnr
from torch import nn
from warm_python import run_script

import quanthost

pytestmark = pytest.mark.smoke

# dB; a value that lies between two integers may be rounded to either
FAITHFUL = 35.0
GOOD = 25.0


class Convolutions(nn.Module):
    """Convolution with batch norm, a sum, an average, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + torch.relu(self.norm(self.conv(x)))
        scores: torch.Tensor = self.head(x.mean((2, 3)))
        return scores


class Attention(nn.Module):
    """Layer norm, attention with itself, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.query = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        result: torch.Tensor = x + torch.softmax(self.query(y) @ y.transpose(1, 2) / 4, -1) @ y
        return result


class Layers(nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(torch.relu(self.first(x)))
        return result


SHAPES = {Convolutions: (1, 3, 8, 8), Attention: (1, 8, 16), Layers: (2, 16)}


@attrs.frozen
class Case:
    """A network, and how it is quantized."""

    network: Callable[[], nn.Module]
    backend: str
    recipe: str

    def __str__(self) -> str:
        return f"{self.network.__name__.lower()}-{self.backend}-{self.recipe}"


COMPARED = (
    Case(Convolutions, "xnnpack_like", "int8_static"),
    Case(Convolutions, "int8_reference", "int8_static"),
    Case(Attention, "xnnpack_like", "int8_static"),
    Case(Layers, "xnnpack_like", "int8_dynamic"),
)
CASES = (
    *COMPARED,
    Case(Attention, "int8_reference", "int8_static"),
    # it has no dynamic recipe
    Case(Layers, "int8_reference", "int8_weight_only"),
)


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """A program, and the results of model, q/dq form and runtime for inputs that calibration did not see."""

    program: quanthost.LoweredProgram
    model: torch.Tensor
    qdq: torch.Tensor
    runtime: torch.Tensor


@functools.cache
def run(case: Case, way: str) -> Run:
    """Take a case through all stages, fast or in upstream's own way."""
    torch.manual_seed(0)
    model = case.network().eval()
    *batches, unseen = (rand(*SHAPES[case.network], seed=seed) for seed in range(9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTHOST_TOOLCHAIN", way)
        captured = quanthost.capture(model, batches[0])
        prepared = quanthost.prepare(captured, case.backend, case.recipe, placement="all")
        static = case.recipe == "int8_static"
        converted = quanthost.convert(quanthost.calibrate(prepared, batches if static else None))
        program = quanthost.lower(converted)
        with torch.no_grad():
            return Run(
                program=program, model=model(unseen), qdq=converted.module(unseen),
                runtime=program.run(unseen),
            )  # fmt: skip


def check(result: Run) -> None:
    """The runtime has the results of the q/dq form in eager torch, and these are near the model's."""
    assert sqnr(result.qdq, result.runtime) >= FAITHFUL
    assert sqnr(result.model, result.runtime) >= GOOD


@pytest.mark.parametrize("case", CASES, ids=str)
def test_runtime_computes_the_quantized_form(
    case: Case, record_property: Callable[[str, object], None]
) -> None:
    """With the shortcuts that this toolchain has."""
    result = run(case, "fast")

    check(result)
    record = result.program.record.toolchain
    assert record is not None
    # scripts/toolchains.py lists the shortcuts that this toolchain does without
    for note in record.notes:
        record_property("note", note)


@pytest.mark.parametrize("case", COMPARED, ids=str)
def test_both_ways_give_one_program(case: Case) -> None:
    """Delegates, their operators, kernels outside and results are those of upstream's own way."""
    fast, upstream = run(case, "fast"), run(case, "upstream")

    check(upstream)
    assert fast.program.record.pieces == upstream.program.record.pieces
    assert sorted(fast.program.record.outside) == sorted(upstream.program.record.outside)
    assert torch.equal(fast.runtime, upstream.runtime)


NETS = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    return net.eval(), (torch.ones(1, 3, 8, 8),)

def batches():
    generator = torch.Generator().manual_seed(2)
    return [(torch.rand(1, 3, 8, 8, generator=generator),) for _ in range(4)]
"""


def command(folder: Path, *arguments: str) -> str:
    """What ``quanthost`` prints, called in a folder."""
    result = run_script([Path(sys.executable).with_name("quanthost"), *arguments], folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_commands(tmp_path: Path) -> None:
    """``quantize`` writes a program, ``inspect`` shows it, ``run`` gives its outputs."""
    (tmp_path / "nets.py").write_text(NETS)
    quantize = ("quantize", "nets.py:build", "-b", "xnnpack_like", "-c", "nets.py:batches")

    assert "delegated" in command(tmp_path, *quantize, "-o", "net.pte")
    assert "XnnpackBackend" in command(tmp_path, "inspect", "net.pte")
    assert "float32 [1, 4]" in command(tmp_path, "run", "net.pte", "-i", "random")
