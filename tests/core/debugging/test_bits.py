"""``compare_bits``: seeded faults are found at their operators; what cannot be compared is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import quanthost
from quanthost import inspection
from quanthost.errors import InputError
from quanthost.stages.lowering.taps import run_tapped
from quanthost.stages.records import ConvertedModel


class Net(nn.Module):
    """Four layers in a row, the third of which pads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 8, 1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.third(nn.functional.elu(self.second(self.first(x)))))
        pooled = hidden.mean((2, 3))
        return {"scores": self.last(pooled), "features": pooled}


SCORES, FEATURES = "output['scores']", "output['features']"


@pytest.fixture(scope="module")
def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 12, 12, generator=generator) for _ in range(3)]


@pytest.fixture(scope="module")
def golden(inputs: list[Tensor]) -> ConvertedModel:
    torch.manual_seed(0)
    prepared = quanthost.prepare(
        quanthost.capture(Net().eval(), (inputs[0],)), "int8_reference", placement="all"
    )
    return quanthost.convert(quanthost.calibrate(prepared, inputs), "integer", "fp32_half_even")


def _half_up(module: Any) -> None:
    """Ties go up instead of to the even neighbour."""
    output = module.conv2d_1_integer.output
    scale, numbers = output.multipliers.scale, output.numbers

    def rescaled(accumulator: Tensor) -> Tensor:
        # of accumulators in halves of a step, so that there are ties
        values = torch.floor(torch.round(accumulator * scale * 2) / 2 + 0.5)
        return (values + numbers.zero_point).clamp(numbers.low, numbers.high).to(numbers.dtype)

    output.forward = rescaled


def _zero_padding(module: Any) -> None:
    """The border holds the number 0, not the zero point."""
    layer = module.conv2d_2_integer
    layer.pad, layer.padding = [1, 1, 1, 1], [0, 0]
    plain = layer.forward
    layer.forward = lambda x: _without_pad(layer, plain, nn.functional.pad(x, layer.pad))


def _without_pad(layer: Any, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    pad, layer.pad = layer.pad, []
    try:
        return plain(x)
    finally:
        layer.pad = pad


def _other_bias(module: Any) -> None:
    """Each channel has the bias of its neighbour."""
    module.linear_integer.bias = module.linear_integer.bias.roll(1)


def _short_accumulator(module: Any) -> None:
    """Sums wrap around at 16 bits."""
    output = module.conv2d_integer.output
    plain = output.forward
    output.forward = lambda accumulator: plain(accumulator.to(torch.int64).to(torch.int16))


FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "half up": (_half_up, "conv2d_1"),
    "zero padding": (_zero_padding, "conv2d_2"),
    "bias of another channel": (_other_bias, "linear"),
    "16-bit accumulator": (_short_accumulator, "conv2d"),
}


def _faulty(golden: ConvertedModel, fault: Callable[[Any], None]) -> ConvertedModel:
    module = copy.deepcopy(golden.module)
    fault(module)
    return attrs.evolve(golden, module=module)


def _recorded(device: ConvertedModel, inputs: list[Tensor]) -> dict[str, Tensor]:
    """What a device writes down: outputs and intermediate integers of all inputs, one after the other."""
    runs = []
    for x in inputs:
        leaves, found = run_tapped(device.module, [x])
        runs.append({**found, SCORES: leaves[0], FEATURES: leaves[1]})
    return {name: torch.cat([run[name] for run in runs]) for name in runs[0]}


@pytest.mark.parametrize("name", FAULTS)
def test_seeded_faults(golden: ConvertedModel, inputs: list[Tensor], name: str, tmp_path: Path) -> None:
    """Found and named at the right operator, whatever the other side is."""
    fault, place = FAULTS[name]
    device = _faulty(golden, fault)
    recorded = _recorded(device, inputs)
    stored = tmp_path / "device.npz"
    np.savez(stored, **{key: tensor.numpy() for key, tensor in recorded.items()})
    runs = iter([_recorded(device, [x]) for x in inputs])

    for other in (device, recorded, stored, lambda _: next(runs)):
        comparison = inspection.compare_bits(golden, other, inputs)

        assert not comparison.equal
        assert comparison.first is not None
        assert comparison.first.name.startswith(place) or _fused(comparison.first.name, place)
        assert comparison.inputs == 3


def _fused(found: str, place: str) -> bool:
    """A result has the name of the last operator that is fused into it."""
    return (found, place) == ("relu", "conv2d_2")


def test_without_a_fault_all_is_equal(golden: ConvertedModel, inputs: list[Tensor]) -> None:
    """The count is that of the integers of all outputs and operators."""
    comparison = inspection.compare_bits(golden, _recorded(golden, inputs), inputs)

    assert comparison.equal
    assert comparison.first is None
    assert comparison.not_shown == ()
    assert {d.name: d.elements for d in comparison.outputs} == {SCORES: 120, FEATURES: 96}


def test_a_program_of_its_own(golden: ConvertedModel, inputs: list[Tensor]) -> None:
    """Outputs alone, or with intermediates all operators."""
    plain = inspection.compare_bits(golden, quanthost.lower(golden), inputs)
    whole = inspection.compare_bits(golden, quanthost.lower(golden, intermediates=True), inputs)

    assert (plain.equal, whole.equal) == (True, True)
    assert plain.operators == ()
    assert whole.not_shown == ()
    assert set(plain.not_shown) == {d.name for d in whole.operators}


def test_the_float_model(golden: ConvertedModel, inputs: list[Tensor]) -> None:
    """A callable that returns what the model returns is compared by its outputs, in steps of the integers."""
    torch.manual_seed(0)
    comparison = inspection.compare_bits(golden, Net().eval(), inputs)

    assert {d.name for d in comparison.outputs} == {SCORES, FEATURES}
    assert all(d.steps and d.differing and d.largest >= 1 for d in comparison.outputs)


@pytest.mark.parametrize(
    ("other", "given", "message"),
    [
        ({SCORES: torch.zeros(4, 10)}, [], "no input to compare on"),
        ({SCORES: torch.zeros(4, 9)}, None, r"output\['scores'\] of shape \[4, 9\]\n  needed: \[4, 10\]"),
        ({"logits": torch.zeros(4, 10)}, None, r"tensors named logits\n  needed: some of x, .*conv2d"),
        (lambda x: x, None, r"1 results\n  needed: 2: output\['features'\], output\['scores'\]"),
    ],
    ids=["no input", "shape", "names", "results"],
)
def test_refusals(
    golden: ConvertedModel, inputs: list[Tensor], other: Any, given: list[Tensor] | None, message: str
) -> None:
    """What was seen and what was needed."""
    with pytest.raises(InputError, match=message):
        inspection.compare_bits(golden, other, inputs[:1] if given is None else given)


def test_float_results_are_told_but_not_counted(inputs: list[Tensor]) -> None:
    """Behind a float island no side is exact; NaN equals NaN."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LogSoftmax(1)).eval()
    prepared = quanthost.prepare(quanthost.capture(model, (inputs[0],)), "int8_reference")
    golden = quanthost.convert(quanthost.calibrate(prepared, inputs), "integer")
    (wanted,) = run_tapped(golden.module, [inputs[0]])[0]

    near = inspection.compare_bits(golden, {"output": wanted + 1e-6}, inputs[:1])
    gone = torch.full_like(wanted, torch.nan)

    assert near.equal
    assert not near.outputs[0].steps
    assert near.outputs[0].differing == wanted.numel()
    assert (
        inspection.compare_bits(golden, {"output": gone}, inputs[:1]).outputs[0].differing == wanted.numel()
    )
    form = next(d.form for d in golden.decisions if d.node == "log_softmax")
    assert form is not None
    assert form.startswith("float island: int8_reference has no int8 kernel")
