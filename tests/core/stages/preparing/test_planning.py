"""The plan: which tensors are observed and share parameters, and why the others are not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from flow_nets import BACKEND, images, prepared, rand, seeded
from sample_graphs import node_of
from torch import fx, nn

import quanthost
from quanthost.api import (
    DerivedQSpec,
    DType,
    FixedQSpec,
    Gain,
    Kernel,
    QSpec,
    Role,
    Row,
    SupportTable,
    TableBackend,
    constraint,
    op,
)
from quanthost.graph.provenance import node_infos
from quanthost.graph.sharing import Point
from quanthost.hooks.manager import Plugins
from quanthost.host.requests import resolve
from quanthost.host.target import Target
from quanthost.stages.preparing.planning import Plan, plan_quantization
from quanthost.toolchain.export import graph_module
from quanthost.values import Cause, Override, Placement, Refusal, Request, Symmetry

X = rand(2, 8)
IMAGE = images(1)[0]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return resolve(Target(backend=BACKEND))[0]


class Around(nn.Module):
    """A linear layer, what is asked about, and a linear layer."""

    def __init__(self, between: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(8, 8) for _ in range(3))
        self.between = between
        seeded(self)

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.between(self.first(x), *(more or (self.second(x),))))
        return y


def planned(
    model: nn.Module, *inputs: torch.Tensor, plugins: Plugins, **asked: Any
) -> tuple[fx.GraphModule, Plan]:
    """The plan for a captured model, and its graph; backends of the request are those of the plugins."""
    graph = graph_module(quanthost.capture(model, inputs).exported)
    nodes = node_infos(graph.graph)
    request = Request(backends=plugins.backends, **{"recipe": "int8_static", **asked})
    plugins.transform(graph, request)
    before = str(graph.graph)
    made = plan_quantization(graph, nodes, request, plugins)
    assert str(graph.graph) == before
    assert not [node for node in graph.graph.nodes if "quantization_annotation" in node.meta]
    return graph, made


def described(point: Point) -> str:
    return point.producer.name if point.consumer is None else f"{point.producer.name}->{point.consumer.name}"


def groups(plan: Plan) -> list[list[str]]:
    """The sharing groups in words."""
    return [[described(point) for point in points] for points, _ in plan.quant_plan.groups]


def spec_of(plan: Plan, node: str, capture: str) -> QSpec:
    """The spec of a capture of the match whose first operator is that node."""
    spec = next(made.qspecs[capture] for made in plan.matches if made.nodes[0].name == node)
    assert isinstance(spec, QSpec)
    return spec


def test_a_layer_has_an_input_a_weight_and_an_output(plugins: Plugins) -> None:
    """Of layer and ReLU the result of the ReLU is quantized, not what lies between."""
    model = nn.Sequential(OrderedDict(layer=nn.Linear(8, 8), act=nn.ReLU()))
    _, plan = planned(model, X, plugins=plugins)
    assert groups(plan) == [["layer_weight->linear"], ["input_1->linear"], ["relu"]]
    assert [made.match.row for made in plan.matches] == ["linear_relu"]
    assert [node.name for node in plan.quant_plan.operators] == ["linear", "relu"]
    assert plan.refusals == {}


def test_what_moves_data_shares_parameters(plugins: Plugins) -> None:
    """Input and output of a maximum pool, and all of a concatenation, are one group."""
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)))
    _, plan = planned(model, IMAGE, plugins=plugins)
    assert ["conv2d", "conv2d->max_pool2d", "max_pool2d", "max_pool2d->conv2d_1"] in groups(plan)
    _, plan = planned(Around(lambda a, b: torch.cat([a, b], 1)[:, 4:12]), X, plugins=plugins)
    (shared,) = [group for group in groups(plan) if "cat" in group]
    assert {"linear", "linear_1", "linear->cat", "linear_1->cat", "slice_1", "slice_1->linear_2"} <= set(
        shared
    )


def test_fixed_ranges_meet_a_concatenation(plugins: Plugins) -> None:
    """Sigmoid and tanh keep their ranges; the concatenation quantizes them again to one of its own."""
    model = Around(lambda a, b: torch.cat([a.sigmoid(), b.tanh()], 0))
    _, plan = planned(model, X, plugins=plugins, placement=Placement.ALL)
    assert ["sigmoid"] in groups(plan)
    assert ["tanh"] in groups(plan)
    assert ["sigmoid->cat", "tanh->cat", "cat"] in groups(plan)


def test_specs_that_cannot_agree(plugins: Plugins) -> None:
    """A row that fixes two ranges and wants them equal contradicts itself: only its own nodes stay float."""
    fixed = [FixedQSpec(dtype=DType.INT8, scale=scale, zero_point=0) for scale in (0.5, 0.25)]
    linear = a_backend(plugins, "b", "linear")
    row = Row(
        name="add", pattern=op("add.Tensor", self="a", other="b"), kernels={Kernel.STATIC},
        shares=("a", "b"), qspecs={"a": fixed[0], "b": fixed[1]},
    )  # fmt: skip
    backend = attrs.evolve(linear, table=SupportTable((*linear.table, row)))
    graph, plan = planned(Around(torch.add), X, plugins=Plugins([("b", backend)]), placement=Placement.ALL)
    reason = "its tensors must share quantization parameters, but their qspecs contradict each other"
    assert plan.refusals == {node_of(graph, "add"): Refusal(cause=Cause.CONSTRAINT, reason=reason)}
    assert [made.match.row for made in plan.matches] == ["linear"] * 3


@pytest.mark.parametrize(("placement", "quantized"), [(Placement.COST, False), (Placement.ALL, True)])
def test_placement(plugins: Plugins, placement: Placement, quantized: bool) -> None:
    """By cost, an addition between float tensors stays float, and is told why."""

    class Adds(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x * x

    graph, plan = planned(Adds(), X, plugins=plugins, placement=placement)
    assert bool(plan.matches) == quantized
    if not quantized:
        reason = "left in float: no neighbouring operator uses x or mul or add as int8"
        assert plan.refusals[node_of(graph, "add")] == Refusal(cause=Cause.COST, reason=reason)
    else:
        assert plan.refusals == {}


OTHER = QSpec(dtype=DType.INT8, quant_min=-127, symmetry=Symmetry.SYMMETRIC)


def test_keep_float_closes_a_node(plugins: Plugins) -> None:
    """With the rule as the reason; its neighbours stay quantized."""
    rule = Override(module_name="second", keep_float=True)
    graph, plan = planned(Around(torch.add), X, plugins=plugins, overrides=(rule,))
    node = next(n for n in graph.graph.nodes if n.name == "linear_1")
    reason = "kept in float by override(module_name='second', keep_float=True)"
    assert plan.refusals[node] == Refusal(cause=Cause.OVERRIDE, reason=reason)
    assert [made.nodes[0].name for made in plan.matches if made.match.row == "linear"] == [
        "linear",
        "linear_2",
    ]
    assert plan.rules == {"linear_1": rule}


def test_keep_float_of_an_inner_node_keeps_the_pair_apart(plugins: Plugins) -> None:
    """A layer may be quantized without the ReLU that would be fused behind it."""
    rule = Override(operator="aten.relu", keep_float=True)
    model = seeded(nn.Sequential(nn.Linear(8, 8), nn.ReLU()))
    _, plan = planned(model, X, plugins=plugins, overrides=(rule,))
    assert [made.match.row for made in plan.matches] == ["linear"]


def test_a_recipe_for_some_nodes(plugins: Plugins) -> None:
    """Each match carries the recipe that it comes from; float recipes refuse nothing and choose nothing."""
    rules = (
        Override(module_name="second", recipe="int8_static_per_tensor"),
        Override(module_name="last", recipe="fp32"),
    )
    _, plan = planned(Around(torch.add), X, plugins=plugins, overrides=rules)
    recipes = {made.nodes[0].name: made.recipe for made in plan.matches if made.match.row == "linear"}
    assert recipes == {"linear": "int8_static", "linear_1": "int8_static_per_tensor"}
    assert spec_of(plan, "linear", "weight").axis == 0
    assert spec_of(plan, "linear_1", "weight").axis is None


def test_a_qspec_for_a_role(plugins: Plugins) -> None:
    """Weights of one module get the override's qspec; its activations keep the recipe's."""
    rule = Override(module_name="first", weight=OTHER)
    _, plan = planned(Around(torch.add), X, plugins=plugins, overrides=(rule,))
    assert spec_of(plan, "linear", "weight") == OTHER
    assert spec_of(plan, "linear", "input").symmetry is Symmetry.AFFINE


INTEGERS: dict[str, tuple[Callable[..., torch.Tensor], torch.Tensor]] = {
    "where": (lambda y, m: torch.where(m, y, -y), X > 0),
    "masked_fill": (lambda y, m: y.masked_fill(m, 0.5), X > 0),
    "index": (lambda y, i: y[i], torch.tensor([1, 0])),
    "gather": (lambda y, i: torch.gather(y, 1, i), torch.zeros(2, 8, dtype=torch.int64)),
    "index_select": (lambda y, i: y.index_select(0, i + 1), torch.tensor([0, -1])),
    "product with counts": (lambda y, n: y * n, torch.tensor([[2], [3]])),
    "sum of counts": (lambda y, n: y + (n * n - n), torch.tensor([[2], [3]])),
}


@pytest.mark.parametrize(("between", "integers"), INTEGERS.values(), ids=INTEGERS.keys())
@pytest.mark.parametrize("placement", list(Placement), ids=lambda placement: placement.value)
def test_masks_indices_and_counts_are_not_observed(
    plugins: Plugins, between: Callable[..., torch.Tensor], integers: torch.Tensor, placement: Placement
) -> None:
    """No point of the plan holds a tensor of integers or truth values."""
    _, plan = planned(Around(between), X, integers, plugins=plugins, placement=placement)
    points = [point for group, _ in plan.quant_plan.groups for point in group]
    assert points
    assert all(point.producer.meta["val"].is_floating_point() for point in points)


def test_embedded_indices_are_not_observed() -> None:
    """The table's rows are, from where a layer reads them."""
    made = prepared(seeded(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 8))), torch.tensor([[1, 4]]))
    observed = [node.args[0].name for node in made.module.graph.nodes if node.op == "call_module"]
    assert "embedding" in observed
    assert "input_1" not in observed


def test_masked_scores_stay_float(plugins: Plugins) -> None:
    """A tensor that holds a mask's sentinel is refused with the node where it comes from."""
    between = Around(lambda y, m: y.masked_fill(m, float("-inf")).softmax(-1))
    graph, plan = planned(between, X, X > 0, plugins=plugins, placement=Placement.ALL)
    reason = "it handles mask values beyond ±1e30, which come from masked_fill"
    refusal = Refusal(cause=Cause.CONSTRAINT, reason=reason)
    assert plan.refusals[node_of(graph, "masked_fill")] == refusal


def a_backend(plugins: Plugins, name: str, *rows: str) -> TableBackend:
    """The installed backend's recipes and some of its rows under another name."""
    whole = plugins.plugin(BACKEND)
    assert isinstance(whole, TableBackend)
    kept = SupportTable(row for row in whole.table if row.name in rows)
    return TableBackend(info=attrs.evolve(whole.info, name=name), table=kept)


def test_the_first_backend_that_takes_a_node_has_it(plugins: Plugins) -> None:
    """What an earlier one takes is closed to the later; what it leaves is the later's."""
    early, late = a_backend(plugins, "early", "add"), a_backend(plugins, "late", "add", "linear")
    for order, adder in (((early, late), "early"), ((late, early), "late")):
        both = Plugins([(backend.info.name, backend) for backend in order])
        _, plan = planned(Around(torch.add), X, plugins=both)
        owners = {made.match.row: made.match.backend for made in plan.matches}
        assert owners == {"add": adder, "linear": "late"}


LINEAR = Row(
    name="linear", pattern=op("linear", input="input", weight="weight", bias="bias?"),
    kernels={Kernel.STATIC}, roles={"weight": Role.WEIGHT, "bias": Role.BIAS}, gain=Gain.DRIVES,
)  # fmt: skip


def test_a_later_backend_is_asked_about_what_an_earlier_one_refused(plugins: Plugins) -> None:
    """A row whose constraint refuses is no claim; the reason is forgotten where another takes the node."""
    refusing = attrs.evolve(LINEAR, constraints=(constraint("never")(lambda _: "not today"),))
    one, two = (
        (name, TableBackend(info=attrs.evolve(plugins.info(BACKEND), name=name), table=SupportTable((row,))))
        for name, row in (("one", refusing), ("two", LINEAR))
    )
    graph, plan = planned(nn.Linear(8, 8), X, plugins=Plugins([one]))
    refusal = Refusal(cause=Cause.CONSTRAINT, reason="row linear of one: not today")
    assert plan.refusals == {node_of(graph, "linear"): refusal}
    _, plan = planned(nn.Linear(8, 8), X, plugins=Plugins([one, two]))
    assert [made.match.backend for made in plan.matches] == ["two"]
    assert plan.refusals == {}


def test_a_derived_spec_names_its_sources(plugins: Plugins) -> None:
    """A bias' scale is the product of two others; the plan says of which points."""
    static = plugins.info(BACKEND).recipes[0]
    recipe = attrs.evolve(static, bias=DerivedQSpec(sources=("input", "weight")))
    info = attrs.evolve(plugins.info(BACKEND), name="b", recipes=(recipe,))
    backend = TableBackend(info=info, table=SupportTable((LINEAR,)))
    _, plan = planned(nn.Linear(8, 8), X, plugins=Plugins([("b", backend)]))
    ((point, spec, sources),) = plan.quant_plan.derived
    assert described(point) == "bias->linear"
    assert [described(source) for source in sources] == ["input_1->linear", "weight->linear"]
    assert spec.dtype is DType.INT32
