"""``TableBackend``: all hooks of a backend from its table, recipes and rewrites."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from flow_nets import rand
from sample_graphs import graph_of, node_of, nodes_of
from torch import fx, nn

from quanthost.api import (
    BackendInfo,
    DType,
    Estimator,
    FixedQSpec,
    Gain,
    Granularity,
    Kernel,
    LoweringOptions,
    Match,
    QSpec,
    QSpecChoice,
    RangeEstimator,
    Recipe,
    Refusal,
    Request,
    Rewriter,
    Role,
    Row,
    RowMiss,
    SupportTable,
    Symmetry,
    TableBackend,
    Timing,
    constraint,
    op,
)
from quanthost.errors import RequestError
from quanthost.hooks.manager import Plugins

ACT = QSpec(dtype=DType.INT8)
WEIGHT = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0, symmetry=Symmetry.SYMMETRIC
)
DYNAMIC = QSpec(dtype=DType.INT8, timing=Timing.DYNAMIC, estimator=RangeEstimator(kind=Estimator.MINMAX))
FIXED = FixedQSpec(dtype=DType.INT8, scale=1 / 256, zero_point=-128)
RECIPES = (
    Recipe(name="static", kernel=Kernel.STATIC, activation=ACT, weight=WEIGHT),
    Recipe(name="dynamic", kernel=Kernel.DYNAMIC, activation=DYNAMIC, weight=WEIGHT),
    Recipe(name="weights", kernel=Kernel.WEIGHT_ONLY, weight=WEIGHT),
    Recipe(name="float", kernel=Kernel.FLOAT),
)


@constraint("at most four rows")
def few_rows(site: Any) -> str | None:
    rows = site.shape("input")[0]
    return None if rows <= 4 else f"{rows} rows"


LINEAR = Row(
    name="linear", pattern=op("linear", input="input", weight="weight", bias="bias?"),
    kernels={Kernel.STATIC, Kernel.DYNAMIC, Kernel.WEIGHT_ONLY, Kernel.FLOAT},
    roles={"weight": Role.WEIGHT, "bias": Role.BIAS}, constraints=(few_rows,), gain=Gain.DRIVES,
)  # fmt: skip
TURNED = attrs.evolve(
    LINEAR, name="turned", pattern=op("conv_transpose2d", input="input", weight="weight", bias="bias?"),
    weight_axis=1, constraints=(),
)  # fmt: skip
CAT = Row(
    name="cat", pattern=op("cat", tensors="inputs*"), kernels={Kernel.STATIC, Kernel.FLOAT},
    shares=("inputs", "output"),
)  # fmt: skip
ADD = Row(name="add", pattern=op("add.Tensor", self="a", other="b"), kernels={Kernel.STATIC, Kernel.DYNAMIC})
SOFT = Row(
    name="softmax", pattern=op("softmax.int", self="input"), kernels={Kernel.STATIC},
    qspecs={"output": FIXED},
)  # fmt: skip
TABLE = SupportTable((LINEAR, TURNED, CAT, ADD, SOFT))
BACKEND = TableBackend(info=BackendInfo(name="b", recipes=RECIPES, qat=False), table=TABLE, delegate="D")
X = rand(2, 4)


def asked(recipe: str = "static") -> Request:
    return Request(backends="b", recipe=recipe)


def everything(graph: fx.GraphModule) -> frozenset[str]:
    return frozenset(node.name for node in graph.graph.nodes)


def found(graph: fx.GraphModule, recipe: str = "static") -> list[Match | RowMiss]:
    return BACKEND.quanthost_annotate(graph, asked(recipe), everything(graph))


def test_a_match_says_all_of_a_site() -> None:
    """Nodes and captures by name, roles, kernel and gain as the row has them."""
    (match,) = found(graph_of(nn.Linear(4, 3), X))
    assert match == Match(
        backend="b", row="linear", kernel=Kernel.STATIC, nodes=["linear"],
        captures={"input": "input_1", "weight": "weight", "bias": "bias"},
        roles={"weight": Role.WEIGHT, "bias": Role.BIAS}, gain=Gain.DRIVES,
    )  # fmt: skip


def test_a_list_operand_is_numbered() -> None:
    """The tensors of a concatenation, and that they share parameters with the result."""
    (match,) = found(graph_of(lambda a, b: torch.cat([a, b, a]), X, X))
    assert isinstance(match, Match)
    assert match.captures == (
        ("inputs.0", "inputs_0"), ("inputs.1", "inputs_1"), ("inputs.2", "inputs_0"),
    )  # fmt: skip
    assert match.shares == ("inputs", "output")


def test_an_absent_operand_is_not_captured() -> None:
    """A layer without bias."""
    (match,) = found(graph_of(nn.Linear(4, 3, bias=False), X))
    assert isinstance(match, Match)
    assert [name for name, _ in match.captures] == ["input", "weight"]


def test_a_refused_row_gives_its_reason() -> None:
    """By the node, so that the reason reaches the user."""
    assert found(graph_of(nn.Linear(4, 3), rand(5, 4))) == [
        RowMiss(node="linear", row="linear", reason="5 rows")
    ]


def test_integers_are_no_operands() -> None:
    """Counts can be added, not quantized."""
    (miss,) = found(graph_of(lambda a, n: a + n, X, torch.ones(2, 4, dtype=torch.int64)))
    assert miss == RowMiss(node="add", row="add", reason="inputs_1 is int64, not float")


def test_closed_nodes_are_not_matched() -> None:
    """Of two layers one is open."""
    graph = graph_of(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), X)
    (match,) = BACKEND.quanthost_annotate(graph, asked(), frozenset({"linear_1"}))
    assert isinstance(match, Match)
    assert match.nodes == ("linear_1",)


def test_float_recipes_match_nothing() -> None:
    """There is nothing to annotate."""
    assert found(graph_of(nn.Linear(4, 3), X), "float") == []


def test_the_graph_is_not_changed() -> None:
    """Matching is pure."""
    graph = graph_of(nn.Linear(4, 3), X)
    before = (str(graph.graph), [dict(node.meta) for node in graph.graph.nodes])
    found(graph)
    assert before == (str(graph.graph), [dict(node.meta) for node in graph.graph.nodes])


def choice(row: str, recipe: str, captures: tuple[str, ...]) -> QSpecChoice | Refusal:
    kernel = next(r.kernel for r in RECIPES if r.name == recipe)
    match = Match(
        backend="b", row=row, kernel=kernel, nodes=["n"], captures={name: name for name in captures},
        roles=TABLE.row(row).roles,
    )  # fmt: skip
    return BACKEND.quanthost_choose_qspecs(match, asked(recipe))


OPERANDS = ("input", "weight", "bias")


@pytest.mark.parametrize(
    ("recipe", "specs"),
    [
        ("static", {"input": ACT, "weight": WEIGHT, "output": ACT}),
        ("dynamic", {"input": DYNAMIC, "weight": WEIGHT}),
        ("weights", {"weight": WEIGHT}),
    ],
)
def test_each_role_gets_the_recipe_s_qspec(recipe: str, specs: dict[str, QSpec]) -> None:
    """A role without one stays float; only static kernels quantize their result."""
    made = choice("linear", recipe, OPERANDS)
    assert isinstance(made, QSpecChoice)
    assert made.as_dict() == specs


def test_channels_lie_where_the_row_says() -> None:
    """A transposed convolution has its output channels second."""
    made = choice("turned", "static", OPERANDS)
    assert isinstance(made, QSpecChoice)
    assert made.as_dict()["weight"] == attrs.evolve(WEIGHT, axis=1)


def test_a_row_may_fix_a_qspec() -> None:
    """The range of a softmax is known."""
    made = choice("softmax", "static", ("input",))
    assert isinstance(made, QSpecChoice)
    assert made.as_dict() == {"input": ACT, "output": FIXED}


def test_numbered_captures_have_the_role_of_their_list() -> None:
    """Each tensor of a concatenation is an activation."""
    made = choice("cat", "static", ("inputs.0", "inputs.1"))
    assert isinstance(made, QSpecChoice)
    assert made.as_dict() == {"inputs.0": ACT, "inputs.1": ACT, "output": ACT}


def test_nothing_to_quantize_is_a_refusal() -> None:
    """A recipe of weights at an operator that has none."""
    assert choice("add", "weights", ("a", "b")) == Refusal(
        reason="the recipe weights quantizes no tensor of the row add"
    )


def test_an_unknown_recipe() -> None:
    """The hook names what there is."""
    with pytest.raises(
        RequestError, match=r"the recipe 'int7'\n  needed: one of static, dynamic, weights, float"
    ):
        BACKEND.recipe(asked("int7"))


def test_rewrites_run_in_order_and_leave_no_rest() -> None:
    """Each sees what the one before made; what nobody reads any more is removed, and the code is new."""

    def double_to_sum(graph: fx.GraphModule) -> None:
        for node in nodes_of(graph, "mul"):
            rewriter = Rewriter(graph, node)
            rewriter.replace_with(rewriter.call(torch.ops.aten.add.Tensor, node.args[0], node.args[0]))

    def sum_to_negative(graph: fx.GraphModule) -> None:
        for node in nodes_of(graph, "add"):
            rewriter = Rewriter(graph, node)
            rewriter.replace_with(rewriter.call(torch.ops.aten.neg.default, node.args[0]))

    backend = attrs.evolve(BACKEND, rewrites=(double_to_sum, sum_to_negative))
    graph = graph_of(lambda x: torch.exp(x) * 2 if x is not None else x, X)
    with graph.graph.inserting_before(node_of(graph, "mul")):
        graph.graph.call_function(torch.ops.aten.cos.default, (node_of(graph, "exp"),))
    assert backend.quanthost_transform_for_annotation(graph) is graph
    assert [str(n.target) for n in graph.graph.nodes if n.op == "call_function"] == [
        "aten.exp.default", "aten.neg.default",
    ]  # fmt: skip
    assert torch.equal(graph(X), -torch.exp(X))


def test_the_other_hooks() -> None:
    """Information and options as given; no problems, no runner."""
    options = LoweringOptions(runtime_modules=("m",))
    backend = attrs.evolve(BACKEND, lowering=options)
    assert backend.quanthost_backend_info() is BACKEND.info
    assert backend.quanthost_lowering_options() is options
    assert backend.quanthost_create_runner(b"", ()) is None
    graph = graph_of(nn.Linear(4, 3), X)
    assert backend.quanthost_validate(graph, (), asked()) == []


def test_a_partitioner_where_there_is_a_delegate() -> None:
    """One, under the backend's name; none where portable kernels run everything."""
    (made,) = BACKEND.quanthost_create_partitioners(asked())
    assert made.name == "b"
    assert made.delegation_spec.backend_id == "D"
    assert attrs.evolve(BACKEND, delegate=None).quanthost_create_partitioners(asked()) == []


def test_it_is_a_plugin_as_it_is() -> None:
    """All eight hooks, with arguments that the host knows."""
    plugins = Plugins([("b", BACKEND)])
    assert plugins.info("b") is BACKEND.info
    graph = graph_of(nn.Linear(4, 3), X)
    assert len(plugins.annotate("b", graph, asked(), everything(graph))) == 1
