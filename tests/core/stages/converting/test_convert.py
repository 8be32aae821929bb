"""``convert``: a graph with quantize and dequantize in the place of observers, and its input left alone."""

from __future__ import annotations

import pytest
import torch
from flow_nets import Net, calibrated, converted, images, prepared, sqnr, untouched
from torch import fx, nn

import quanthost
from quanthost.errors import CalibrationError, ConversionError, RequestError
from quanthost.graph.operators import operator_name
from quanthost.stages.records import CalibratedModel
from quanthost.toolchain import pt2e
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import FP32_HALF_EVEN, Representation

IMAGES = images()


@pytest.fixture(scope="module")
def net() -> CalibratedModel:
    return calibrated()


def operators(module: fx.GraphModule) -> list[str]:
    """Names without overload of the calls, in order."""
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    return [".".join(operator_name(node).split(".")[:2]) for node in calls]


def test_the_quantized_graph(net: CalibratedModel) -> None:
    """Conversions stand around each row; batch norm is in the weights, which are integers."""
    module = quanthost.convert(net).module
    assert operators(module) == [
        "quantized_decomposed.dequantize_per_channel", "quantized_decomposed.dequantize_per_channel",
        *("quantized_decomposed.quantize_per_tensor", "quantized_decomposed.dequantize_per_tensor"),
        *("aten.conv2d", "aten.relu"),
        *("quantized_decomposed.quantize_per_tensor", "quantized_decomposed.dequantize_per_tensor"),
        "aten.mean",
        *("quantized_decomposed.quantize_per_tensor", "quantized_decomposed.dequantize_per_tensor"),
        "aten.reshape",
        *("quantized_decomposed.quantize_per_tensor", "quantized_decomposed.dequantize_per_tensor"),
        "aten.linear",
        *("quantized_decomposed.quantize_per_tensor", "quantized_decomposed.dequantize_per_tensor"),
    ]  # fmt: skip
    integers = [buffer for _, buffer in module.named_buffers() if buffer.dtype is torch.int8]
    assert sorted(tuple(buffer.shape) for buffer in integers) == [(4, 8), (8, 3, 3, 3)]
    assert not [part for part in module.modules() if isinstance(part, RangeObserver)]


def test_the_quantized_graph_is_near_the_model(net: CalibratedModel) -> None:
    """In eager torch, on images that calibration saw and one that it did not."""
    module, model = quanthost.convert(net).module, Net()
    assert min(sqnr(model(image), module(image)) for image in IMAGES) > 30
    assert sqnr(model(images(9)[8]), module(images(9)[8])) > 20


def test_the_calibrated_model_is_left_alone(net: CalibratedModel) -> None:
    """Observers keep what they saw, weights their values: converting twice gives one result."""
    with untouched(net.module, net.prepared.module, net.prepared.captured.exported.graph_module):
        first, second = quanthost.convert(net), quanthost.convert(net)
    assert first.module.code == second.module.code
    assert torch.equal(first.module(IMAGES[0]), second.module(IMAGES[0]))
    assert first.refinement == second.refinement
    assert first.decisions == net.prepared.decisions
    assert first.calibrated is net


@pytest.mark.parametrize("recipe", ["int8_dynamic", "int8_weight_only", "fp32"])
def test_recipes_without_static_ranges_need_no_calibration(recipe: str) -> None:
    """The prepared model is enough, and stays as it was."""
    made = prepared(recipe=recipe)
    with untouched(made.module):
        module = quanthost.convert(made).module
    assert sqnr(Net()(IMAGES[0]), module(IMAGES[0])) > (100 if recipe == "fp32" else 30)
    quantizes = any("quantize" in name for name in operators(module))
    assert quantizes == (recipe != "fp32")


def test_static_ranges_need_data() -> None:
    """A prepared model whose ranges must come from data is refused as calibrate refuses it."""
    made = prepared()
    with untouched(made.module), pytest.raises(CalibrationError, match="no calibration data"):
        quanthost.convert(made)


@pytest.mark.parametrize("given", ["qdq", Representation.QDQ], ids=["text", "enumeration"])
def test_representation(net: CalibratedModel, given: str | Representation) -> None:
    """By name or by value."""
    assert quanthost.convert(net, given).representation is Representation.QDQ


def test_reference_representation(net: CalibratedModel) -> None:
    """Sums of products are integers, rescaled in float32; the rest is as in q/dq form."""
    made = quanthost.convert(net, "reference")

    assert made.representation is Representation.REFERENCE
    assert made.arithmetic == FP32_HALF_EVEN
    kinds = {type(operator).__name__ for operator in made.module.modules()}
    assert {"Convolution", "Linear"} <= kinds
    assert not kinds & {"Lookup", "Mean", "MaxPool"}


@pytest.mark.parametrize(
    ("given", "remedy"),
    [("int", "write integer"), ("", "choose one of these"), ("INTEGER", "choose one of these")],
)
def test_unknown_representation_is_refused(net: CalibratedModel, given: str, remedy: str) -> None:
    """What there is is listed; nothing was touched."""
    with untouched(net.module), pytest.raises(RequestError) as caught:
        quanthost.convert(net, given)
    assert (
        str(caught.value)
        == f"""\
representation={given!r}
  needed: one of qdq, reference, integer
  to do:  {remedy}"""
    )


def test_what_torchao_refuses(net: CalibratedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause is told and kept; the calibrated model is as it was."""

    def fails(*_: object, **__: object) -> None:
        raise KeyError("a node")

    monkeypatch.setattr(pt2e, "convert_pt2e", fails)
    with untouched(net.module), pytest.raises(ConversionError) as caught:
        quanthost.convert(net)
    assert str(caught.value).startswith(
        "torchao could not convert the graph: 'a node'\n  needed: a graph that"
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_own_errors_pass(net: CalibratedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says its needed and remedy already is not wrapped."""
    said = CalibrationError("seen", needed="needed", remedy="remedy")

    def fails(*_: object, **__: object) -> None:
        raise said

    monkeypatch.setattr(pt2e, "convert_pt2e", fails)
    with pytest.raises(CalibrationError) as caught:
        quanthost.convert(net)
    assert caught.value is said


def test_a_weight_shared_by_two_layers() -> None:
    """A module called twice has one weight, whose quantized form serves both calls."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.layer(torch.relu(self.layer(x)))
            return y

    model = Twice()
    module = quanthost.convert(quanthost.calibrate(prepared(model, IMAGES[0]), IMAGES)).module
    assert len([b for b in module.buffers() if b.dtype is torch.int8]) == 1
    assert sqnr(model(IMAGES[0]), module(IMAGES[0])) > 30


def test_options_of_prepare_reach_the_graph() -> None:
    """One scale per weight tensor where the recipe says so."""
    names = operators(converted(recipe="int8_static_per_tensor").module)
    assert "quantized_decomposed.dequantize_per_channel" not in names
