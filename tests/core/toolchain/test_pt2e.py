"""Plans as torchao annotations, copies that share nothing they should not, and torchao's two calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flow_nets import Net, calibrated, images, rand, seeded, untouched
from sample_graphs import graph_of, node_of
from torch import fx, nn
from torchao.quantization.pt2e import FusedMovingAvgObsFakeQuantize
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    FixedQParamsQuantizationSpec,
    QuantizationSpec,
    SharedQuantizationSpec,
)

from quanthost.graph.sharing import Point
from quanthost.toolchain import pt2e
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import (
    AnyQSpec,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Granularity,
    QSpec,
    RangeEstimator,
    Symmetry,
    Timing,
)

ACT = QSpec(dtype=DType.INT8)
WEIGHT = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0, symmetry=Symmetry.SYMMETRIC
)
DYNAMIC = QSpec(dtype=DType.INT8, timing=Timing.DYNAMIC)
TOKEN = QSpec(dtype=DType.INT8, timing=Timing.DYNAMIC, granularity=Granularity.PER_TOKEN)
GROUP = QSpec(
    dtype=DType.INT4, granularity=Granularity.PER_GROUP, axis=0, group_size=2, symmetry=Symmetry.SYMMETRIC
)
X = rand(2, 4)
IMAGE = rand(1, 3, 8, 8)


def layer_graph() -> tuple[fx.GraphModule, fx.Node, list[fx.Node]]:
    """A linear layer; its node, and its input, weight and bias."""
    graph = graph_of(seeded(nn.Linear(4, 3)), X)
    node = node_of(graph, "linear")
    return graph, node, list(node.all_input_nodes)


def annotated(plan: pt2e.QuantPlan, node: fx.Node, *, qat: bool = False) -> Any:
    pt2e.apply_plan(plan, qat=qat)
    return node.meta["quantization_annotation"]


def group(spec: AnyQSpec, *points: Point) -> tuple[tuple[Point, ...], AnyQSpec]:
    return points, spec


def test_inputs_stand_in_the_order_of_arguments() -> None:
    """Training takes the first for the input and the second for the weight, whatever the plan's order."""
    _, node, (x, weight, bias) = layer_graph()
    plan = pt2e.QuantPlan(
        groups=(group(WEIGHT, Point(weight, node)), group(ACT, Point(node)), group(ACT, Point(x, node))),
        derived=(
            (Point(bias, node), DerivedQSpec(sources=("x", "w")), (Point(x, node), Point(weight, node))),
        ),
        operators=(node,),
    )
    annotation = annotated(plan, node)
    assert list(annotation.input_qspec_map) == [x, weight, bias]
    assert annotation._annotated
    assert isinstance(annotation.output_qspec, QuantizationSpec)


def test_a_group_shares_the_first_point_s_spec() -> None:
    """By an edge where the first is a use, by a node where it is a result."""
    graph = graph_of(lambda a, b: torch.relu(a + b), X, X)
    add, relu = node_of(graph, "add"), node_of(graph, "relu")
    a, b = add.all_input_nodes
    plan = pt2e.QuantPlan(
        groups=(group(ACT, Point(a, add), Point(b, add), Point(add)), group(ACT, Point(relu))),
        operators=(add, relu),
    )
    annotation = annotated(plan, add)
    assert annotation.input_qspec_map[b] == SharedQuantizationSpec((a, add))
    assert annotation.output_qspec == SharedQuantizationSpec((a, add))
    graph = graph_of(lambda a: torch.relu(a), X)
    relu = node_of(graph, "relu")
    (a,) = relu.all_input_nodes
    plan = pt2e.QuantPlan(groups=(group(ACT, Point(relu), Point(a, relu)),), operators=(relu,))
    assert annotated(plan, relu).input_qspec_map[a] == SharedQuantizationSpec(relu)


def test_operators_without_points_are_annotated_too() -> None:
    """Nothing is quantized between a layer and the ReLU that is fused with it."""
    graph = graph_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), X)
    linear, relu = node_of(graph, "linear"), node_of(graph, "relu")
    plan = pt2e.QuantPlan(groups=(group(ACT, Point(relu)),), operators=(linear, relu))
    annotation = annotated(plan, linear)
    assert annotation._annotated
    assert annotation.output_qspec is None
    assert annotation.input_qspec_map == {}


def test_fixed_parameters() -> None:
    """Scale and zero point as they are."""
    _, node, _ = layer_graph()
    fixed = FixedQSpec(dtype=DType.INT8, scale=0.5, zero_point=3)
    plan = pt2e.QuantPlan(groups=(group(fixed, Point(node)),), operators=(node,))
    made = annotated(plan, node).output_qspec
    assert isinstance(made, FixedQParamsQuantizationSpec)
    assert (made.scale, made.zero_point, made.quant_min, made.quant_max) == (0.5, 3, -128, 127)
    assert made.dtype is torch.int8


class Answers:
    """An observer that knows its scale."""

    def __init__(self, *scale: float) -> None:
        self.scale = torch.tensor(scale)

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scale, torch.zeros_like(self.scale, dtype=torch.int64)


@pytest.mark.parametrize(
    ("weight", "scales"),
    [((2.0, 3.0, 4.0), [1.0, 1.5, 2.0]), ((2.0,), [1.0, 1.0, 1.0])],
    ids=["channels", "one"],
)
def test_a_derived_scale_is_the_product(weight: tuple[float, ...], scales: list[float]) -> None:
    """One for each element of the first axis, with the zero point 0."""
    _, node, (x, w, bias) = layer_graph()
    sources = (Point(x, node), Point(w, node))
    plan = pt2e.QuantPlan(
        derived=((Point(bias, node), DerivedQSpec(sources=("x", "w")), sources),), operators=(node,)
    )
    made = annotated(plan, node).input_qspec_map[bias]
    assert isinstance(made, DerivedQuantizationSpec)
    assert made.derived_from == [(x, node), (w, node)]
    scale, zero_point = made.derive_qparams_fn([Answers(0.5), Answers(*weight)])
    assert scale.tolist() == scales
    assert zero_point.tolist() == [0, 0, 0]
    assert (made.dtype, made.ch_axis) == (torch.int32, 0)


@pytest.mark.parametrize(
    ("spec", "qat", "kind", "dynamic"),
    [
        (ACT, False, RangeObserver, False),
        (WEIGHT, False, RangeObserver, False),
        (DYNAMIC, False, RangeObserver, True),
        (TOKEN, False, RangeObserver, False),
        (ACT, True, FusedMovingAvgObsFakeQuantize, False),
        (WEIGHT, True, FusedMovingAvgObsFakeQuantize, False),
        (DYNAMIC, True, RangeObserver, True),
        (GROUP, True, RangeObserver, False),
    ],
)
def test_observers(spec: QSpec, qat: bool, kind: type, dynamic: bool) -> None:
    """The host's where ranges are observed, torchao's fake quantize where they are trained."""
    _, node, (x, _, _) = layer_graph()
    plan = pt2e.QuantPlan(groups=(group(spec, Point(x, node)),), operators=(node,))
    made = annotated(plan, node, qat=qat).input_qspec_map[x]
    assert isinstance(made, QuantizationSpec)
    assert isinstance(made.observer_or_fake_quant_ctr(), kind)
    assert made.is_dynamic == dynamic
    assert (made.quant_min, made.quant_max, made.ch_axis) == (spec.quant_min, spec.quant_max, spec.axis)


def test_constants_are_observed_once() -> None:
    """A weight's observer knows that it reads a constant."""
    _, node, (x, weight, _) = layer_graph()
    plan = pt2e.QuantPlan(
        groups=(group(ACT, Point(x, node)), group(WEIGHT, Point(weight, node))), operators=(node,)
    )
    specs = annotated(plan, node).input_qspec_map
    assert [specs[each].observer_or_fake_quant_ctr().once for each in (x, weight)] == [False, True]


def test_a_copy_has_observers_of_its_own() -> None:
    """What a copy observes the original does not; parameters are the same memory."""
    original = calibrated().module
    made = pt2e.deep_copy(original)
    with untouched(original):
        made(images(1)[0] * 100)
    for (name, theirs), (_, ours) in zip(original.named_parameters(), made.named_parameters()):
        assert theirs is ours, name


def test_a_copy_may_own_its_parameters() -> None:
    """For training, which changes them."""
    original = graph_of(seeded(nn.Linear(4, 4)), X)
    made = pt2e.deep_copy(original, share=False)
    assert torch.equal(made(X), original(X))
    with untouched(original), torch.no_grad():
        made.weight.zero_()


def test_annotations_of_a_copy_speak_of_the_copy() -> None:
    """Torchao finds a quantized input by the node's identity."""
    graph, node, (x, weight, _) = layer_graph()
    plan = pt2e.QuantPlan(
        groups=(group(ACT, Point(x, node)), group(WEIGHT, Point(weight, node))), operators=(node,)
    )
    pt2e.apply_plan(plan, qat=False)
    made = pt2e.deep_copy(graph)
    copied = node_of(made, "linear")
    annotation = copied.meta["quantization_annotation"]
    assert list(annotation.input_qspec_map) == copied.all_input_nodes[:2]
    assert list(node.meta["quantization_annotation"].input_qspec_map) == [x, weight]


def test_modes() -> None:
    """Dropout and batch norm of a traced graph follow the switch."""
    exported = torch.export.export(nn.Sequential(nn.BatchNorm1d(4), nn.Dropout()).train(), (X,))
    graph = exported.module()
    assert isinstance(graph, fx.GraphModule)
    switches = {"batch_norm": 5, "dropout": 2}

    def trains() -> set[bool]:
        return {node_of(graph, name).args[position] for name, position in switches.items()}

    assert trains() == {True}
    pt2e.switch_to_eval(graph)
    assert trains() == {False}


def test_the_quantizer_calls_what_it_was_given() -> None:
    """Transform, then plan and annotation, then the check, on the graph that is prepared."""
    told: list[str] = []

    def transform(graph: fx.GraphModule) -> fx.GraphModule:
        told.append("transform")
        return graph

    def plan(graph: fx.GraphModule) -> pt2e.QuantPlan:
        told.append("plan")
        node = node_of(graph, "linear")
        return pt2e.QuantPlan(groups=(group(MINMAX, Point(node)),), operators=(node,))

    def check(graph: fx.GraphModule) -> None:
        told.append("check")
        assert "quantization_annotation" in node_of(graph, "linear").meta

    quantizer = pt2e.CallbackQuantizer(transform=transform, plan=plan, check=check)
    model = seeded(nn.Linear(4, 4))
    made = pt2e.prepare(graph_of(model, X), quantizer, qat=False)
    assert told == ["transform", "plan", "check"]
    made(X)
    converted = pt2e.convert(made)
    (output,) = [n for n in converted.graph.nodes if "dequantize" in n.name]
    wanted = model(X)
    assert float((converted(X) - wanted).detach().abs().max()) <= output.args[1] / 2 + 1e-6


MINMAX = QSpec(dtype=DType.INT8, estimator=RangeEstimator(kind=Estimator.MINMAX))


def test_the_model_of_a_net_is_not_trained_by_accident() -> None:
    """A copy for calibration leaves the gradients' switch of its parameters."""
    made = pt2e.deep_copy(calibrated().module)
    assert {p.requires_grad for p in made.parameters()} == {p.requires_grad for p in Net().parameters()}


@pytest.mark.parametrize("name", ["batch_norm", "_native_batch_norm_legit_no_training"])
def test_batch_norms_are_the_callers(name: str) -> None:
    """torchao folds none by itself, and the quantizer's steps and the result show them as they are."""
    exported = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval(), (IMAGE,))
    if name.startswith("_"):
        exported = exported.run_decompositions({})
    module = exported.module(check_guards=False)
    wanted = module(IMAGE)
    seen: list[str] = []

    def look(graph_module: fx.GraphModule) -> fx.GraphModule:
        seen.extend(str(node.target) for node in graph_module.graph.nodes)
        return graph_module

    quantizer = pt2e.CallbackQuantizer(
        transform=look, plan=lambda _: pt2e.QuantPlan(), check=lambda graph_module: None
    )
    observed = pt2e.prepare(module, quantizer, qat=False)
    assert f"aten.{name}.default" in seen
    converted = pt2e.convert(observed)
    assert f"aten.{name}.default" in [str(node.target) for node in converted.graph.nodes]
    assert torch.equal(converted(IMAGE), wanted)
