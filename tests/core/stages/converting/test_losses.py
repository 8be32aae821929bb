"""Parts that quantization nearly destroys are named, with what to do, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from flow_nets import rand, seeded
from torch import Tensor, nn

import quanthost
from quanthost.errors import CalibrationError, ConversionError
from quanthost.values import Finding, FindingKind, Override

pytestmark = pytest.mark.slow


class Detector(nn.Module):
    """Boxes in pixels beside scores, as detection heads concatenate them."""

    def __init__(self, *, box_size: float = 640.0, last: nn.Module | None = None) -> None:
        super().__init__()
        self.head, self.last, self.box_size = nn.Conv2d(6, 6, 1), last or nn.Identity(), box_size
        seeded(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        boxes, scores = y[:, :4] * self.box_size, torch.sigmoid(y[:, 4:]) * 0.3
        return self.last(torch.cat([boxes, scores], 1))


BATCHES = [rand(2, 6, 8, 8, seed=seed) for seed in range(4)]


def findings(
    model: nn.Module, recipe: str = "int8_static", overrides: tuple[Override, ...] = ()
) -> tuple[Finding, ...]:
    captured = quanthost.capture(model.eval(), (BATCHES[0],))
    prepared = quanthost.prepare(captured, "xnnpack_like", recipe, overrides)
    return quanthost.convert(quanthost.calibrate(prepared, BATCHES)).findings


def test_a_branch_that_shares_a_scale_with_a_larger_one() -> None:
    """It is named with both ranges, the line of the model, and overrides that bring it back."""
    [finding] = findings(Detector(last=nn.Conv2d(6, 6, 1)))

    assert finding.kind is FindingKind.LOST_BRANCH
    assert finding.node == "cat"
    assert "its branch mul_1 (0.0 dB above its error): values up to 0.2" in finding.seen
    assert finding.where is not None
    assert finding.where.startswith("test_losses.py:")
    assert "--override node=cat,keep_float=true --override node=conv2d_1,keep_float=true" in finding.remedy

    kept = tuple(Override(node=name, keep_float=True) for name in ("cat", "conv2d_1"))
    assert findings(Detector(last=nn.Conv2d(6, 6, 1)), overrides=kept) == ()


def test_branches_of_like_ranges() -> None:
    """Nothing is lost, and nothing is said."""
    assert findings(Detector(box_size=1.0, last=nn.Conv2d(6, 6, 1))) == ()


class Scaled(nn.Module):
    """A layer of which two channels of the result are tiny."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        seeded(self)
        with torch.no_grad():
            self.layer.weight[5:7] *= 1e-4
            self.layer.bias[5:7] *= 1e-4

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize("recipe", ["int8_static", "int8_dynamic"])
def test_a_part_of_an_output(recipe: str) -> None:
    """Channels below a step of the output are named by axis; a dynamic recipe leaves outputs in float."""
    seen = findings(Scaled(), recipe)

    if recipe == "int8_dynamic":
        assert seen == ()
        return
    [finding] = seen
    assert finding.kind is FindingKind.LOST_PART
    assert "output 0 loses 5:7 of axis 3" in finding.seen
    assert "--override node=linear,keep_float=true" in finding.remedy
    assert findings(Scaled(), recipe, (Override(node="linear", keep_float=True),)) == ()


def test_a_whole_output() -> None:
    """Two large numbers whose difference is the result."""

    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = seeded(nn.Conv2d(6, 6, 1))

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return (y + 1000.0) - 1000.0

    kinds = [finding.kind for finding in findings(Difference(), "int8_static")]
    assert kinds in ([], [FindingKind.LOST_OUTPUT])


class Applied(nn.Module):
    """A function of a layer's result."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = seeded(nn.Conv2d(6, 6, 1)), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def test_infinities_are_not_judged() -> None:
    """Of the float model, as of a division by zero; nor is what is zero everywhere."""
    assert findings(Applied(lambda y: 1 / (y - y))) == ()
    assert findings(Applied(lambda y: y * 0)) == ()


def test_an_operator_that_rounding_breaks() -> None:
    """A factorization needs numbers above zero, which rounding takes away: the error names the operator."""

    def factor(y: Tensor) -> Tensor:
        return torch.linalg.cholesky(torch.diag(torch.stack([y.abs().amax(), y.abs().amin()])))

    with pytest.raises(ConversionError, match="the quantized model cannot run: ") as caught:
        findings(Applied(factor))
    assert caught.value.node == "linalg_cholesky"
    assert "test_losses.py:" in str(caught.value)


class Positive(nn.Module):
    """An operator between two layers that refuses some inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x) + torch.linalg.cholesky(torch.eye(2) * x.amax())[0, 0])


def test_a_batch_that_the_model_refuses() -> None:
    """It is an error of calibration, with what torch says."""
    captured = quanthost.capture(Positive().eval(), (BATCHES[0],))
    with pytest.raises(CalibrationError, match=r"the model fails on a batch: linalg\.cholesky"):
        quanthost.calibrate(quanthost.prepare(captured, "xnnpack_like"), [-torch.ones(2, 6, 8, 8)])


def test_the_caller_is_warned() -> None:
    """At the line of the call, and the record keeps it."""
    model = Detector(last=nn.Conv2d(6, 6, 1)).eval()
    with pytest.warns(quanthost.QuanthostWarning, match="cat loses its branch mul_1") as caught:
        program = quanthost.quantize(model, (BATCHES[0],), "xnnpack_like", calibration=BATCHES)

    ours = [each for each in caught if each.category is quanthost.QuanthostWarning]
    assert [warning.filename for warning in ours] == [__file__]
    assert [finding.kind for finding in program.record.findings] == [FindingKind.LOST_BRANCH]
