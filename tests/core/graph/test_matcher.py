"""Matching a table: the longest match wins, a tie is an error, no order of rows matters."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_graphs import IMAGE, ROW, graph_of, nodes_of
from torch import fx, nn

from quanthost.errors import TableError
from quanthost.graph import evaluation
from quanthost.graph.matcher import Matches, match_table
from quanthost.graph.pattern import Op, bind, op
from quanthost.graph.table import Row, Site, SupportTable, constraint
from quanthost.graph.view import GraphView
from quanthost.values import Kernel, Recipe, Role

CONV = op("conv2d", input="input", weight="weight", bias="bias?")
RELU = op("relu", self="input")


def row(name: str, pattern: Op, **fields: Any) -> Row:
    return Row(**{"name": name, "pattern": pattern, "kernels": [Kernel.STATIC], **fields})


def match(rows: Sequence[Row], module: fx.GraphModule, **how: Any) -> Matches:
    return match_table(SupportTable(rows), GraphView(module), Kernel.STATIC, **how)


def found(rows: Sequence[Row], module: fx.GraphModule, **how: Any) -> list[tuple[str, ...]]:
    """Row and nodes of each site."""
    return [(site.row.name, *(n.name for n in site.nodes)) for site in match(rows, module, **how).sites]


def unary(*operators: str) -> Op:
    """The pattern of a chain, its first operator named first."""
    first, *rest = operators
    pattern = op(first, self="input")
    for name in rest:
        pattern = op(name, self=pattern)
    return pattern


def test_longest_match_wins() -> None:
    """Each operator belongs to one site, the longest that holds there; the rest goes to shorter rows."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Tanh(), nn.ReLU())
    rows = [row("relu", RELU), row("conv", CONV), row("conv_relu", op("relu", self=CONV))]
    assert found(rows, graph_of(model, IMAGE)) == [
        ("conv_relu", "conv2d", "relu"),
        ("conv", "conv2d_1"),
        ("relu", "relu_1"),
    ]


def test_tie() -> None:
    """Two rows of one length at one operator: the error names both, the node and the way out."""

    @constraint("any")
    def anything(site: Site) -> None:
        return None

    rows = [row("relu", RELU), row("activation", op("relu", "tanh", self="input"), constraints=[anything])]
    with pytest.raises(TableError, match="the rows 'relu' and 'activation' both hold at relu_1") as caught:
        match(rows, graph_of(lambda x: x.relu().relu(), ROW), is_open=lambda node: node.name == "relu_1")
    assert caught.value.node == "relu_1"
    assert caught.value.value == ("relu", "activation")
    assert "constraints exclude the other" in caught.value.remedy


def test_tie_of_other_operators() -> None:
    """Rows of one length tie also where they would fuse different inputs."""
    module = graph_of(lambda x, y: x.relu() + y.tanh(), ROW, ROW)
    rows = [
        row("add_relu", op("add", self=RELU, other="other")),
        row("add_tanh", op("add", self="input", other=op("tanh", self="other"))),
    ]
    for order in (rows, rows[::-1]):
        with pytest.raises(TableError, match="both hold at add"):
            match(order, module)


def test_constraint_settles_a_tie() -> None:
    """A row that its constraint refuses does not tie."""

    @constraint("never")
    def never(site: Site) -> str:
        return "not here"

    rows = [row("relu", RELU), row("other", RELU, constraints=[never])]
    assert found(rows, graph_of(lambda x: x.relu(), ROW)) == [("relu", "relu")]


def chains(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Chains that overlap, and an addition that could be fused from either side."""
    first = x.relu().tanh().sigmoid().relu().tanh()
    second = y.tanh().relu().tanh().relu()
    return torch.cat([(first + second).relu(), second])


OVERLAPPING = [
    row("relu_tanh", unary("relu", "tanh")),
    row("tanh_relu", unary("tanh", "relu")),
    row("tanh_sigmoid", unary("tanh", "sigmoid")),
    row("relu_tanh_relu", unary("relu", "tanh", "relu")),
    row("tanh_add", op("add", self=op("tanh", self="input"), other="other", commutative=True)),
    row("add_relu", op("relu", self=op("add", self="input", other="other"))),
    row("relu", RELU),
    row("tanh", op("tanh", self="input")),
    row("sigmoid", op("sigmoid", self="input")),
    row("add", op("add", self="input", other="other")),
]


def test_overlapping_chains() -> None:
    """The longest first, among those of one length the one that begins first; nothing is left out."""
    module = graph_of(chains, ROW, ROW)
    assert found(OVERLAPPING, module) == [
        ("relu_tanh", "relu", "tanh"),
        ("sigmoid", "sigmoid"),
        ("relu_tanh", "relu_1", "tanh_1"),
        ("tanh", "tanh_2"),
        ("relu_tanh_relu", "relu_2", "tanh_3", "relu_3"),
        ("add_relu", "add", "relu_4"),
    ]


@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(3, 12))
@settings(max_examples=40)
def test_order_of_rows_does_not_matter(seed: int, depth: int) -> None:
    """On random graphs, every order of the same rows gives the same sites."""
    module = random_graph(seed, depth)
    expected = found(OVERLAPPING, module)
    shuffled = list(OVERLAPPING)
    random.Random(seed).shuffle(shuffled)
    assert found(shuffled, module) == expected
    covered = [name for _, *nodes in expected for name in nodes]
    assert len(covered) == len(set(covered)) == depth


def random_graph(seed: int, depth: int) -> fx.GraphModule:
    """Unary operators and additions over what was made before, each read at random."""
    generator = random.Random(seed)
    graph = fx.Graph()
    made = [graph.placeholder("x"), graph.placeholder("y")]
    for _ in range(depth):
        name = generator.choice(["relu", "tanh", "sigmoid", "add"])
        if name == "add":
            made.append(
                graph.call_function(torch.ops.aten.add.Tensor, tuple(generator.choices(made[-3:], k=2)))
            )
        else:
            made.append(graph.call_function(getattr(torch.ops.aten, name).default, (made[-1],)))
    graph.output((made[-1],))
    return fx.GraphModule(nn.Module(), graph)


def test_misses_have_reasons() -> None:
    """A row that held but for a constraint, or but for ``accept``, is told with the reason."""

    @constraint("stride 1")
    def stride(site: Site) -> str | None:
        return None if site.argument("stride") == [1, 1] else f"the stride is {site.argument('stride')}"

    model = nn.Sequential(nn.Conv2d(3, 3, 1, stride=2), nn.ReLU(), nn.Conv2d(3, 3, 1))
    module = graph_of(model, IMAGE)
    rows = [
        row("conv_relu", op("relu", self=CONV), constraints=[stride]),
        row("relu", RELU),
        row("conv", CONV),
    ]

    @constraint("narrow")
    def narrow(site: Site) -> str | None:
        return "too wide" if site.output.name == "conv2d_1" else None

    result = match(rows, module, accept=narrow)
    assert [(miss.node.name, miss.row, miss.reason) for miss in result.misses] == [
        ("conv2d", "conv_relu", "the stride is [2, 2]"),
        ("conv2d_1", "conv", "too wide"),
    ]
    assert [site.row.name for site in result.sites] == ["conv", "relu"]


def test_empty_reason_refuses_too() -> None:
    """Only ``None`` accepts: a reason without words is one."""

    @constraint("never")
    def never(site: Site) -> str:
        return ""

    module = graph_of(lambda x: x.relu(), ROW)
    assert found([row("relu", RELU, constraints=[never])], module) == []
    assert found([row("relu", RELU)], module, accept=never) == []


def _raises(site: Site) -> str | None:
    return str(site.shape("input")[9])


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (_raises, "it raised IndexError: tuple index out of range"),
        (lambda _: False, "it returned False"),
        (functools.partial(_raises), "it raised IndexError"),
    ],
    ids=["raises", "bool", "no_function"],
)
def test_a_constraint_without_an_answer(check: Callable[[Site], Any], told: str) -> None:
    """Row, constraint, what it did, and where."""
    wrong = row("relu", RELU, constraints=[constraint("nine dimensions")(check)])

    with pytest.raises(
        TableError, match=f"'nine dimensions' of the row 'relu' gave no answer: {told}"
    ) as error:
        match([wrong], graph_of(nn.ReLU(), ROW))

    assert re.fullmatch(r"test_matcher\.py, line \d+, asked of node relu", error.value.where)
    assert (error.value.__cause__ is None) == ("returned" in told)


def test_accept_is_asked_last() -> None:
    """The caller's check sees sites that the row's own constraints let pass, and no others."""

    @constraint("no relu_1")
    def skip(site: Site) -> str | None:
        return "skipped" if site.output.name == "relu_1" else None

    outputs: list[str] = []

    @constraint("any")
    def accept(site: Site) -> None:
        outputs.append(site.output.name)

    module = graph_of(lambda x: x.relu().relu(), ROW)
    match([row("relu", RELU, constraints=[skip])], module, accept=accept)
    assert outputs == ["relu"]


def test_computed_weight() -> None:
    """A weight has to be a constant of the model, for each kernel."""
    module = graph_of(lambda x, w: torch.conv2d(x, w), IMAGE, torch.ones(4, 3, 1, 1))
    result = match([row("conv", CONV, roles={"weight": Role.WEIGHT, "bias": Role.BIAS})], module)
    assert result.sites == ()
    assert [miss.reason for miss in result.misses] == ["weight is computed, not a constant of the model"]


def test_kernels() -> None:
    """Rows and constraints of other kernels are not looked at."""

    @constraint("float only", kernels=[Kernel.FLOAT])
    def refuses_float(site: Site) -> str:
        return "not in float"

    both = Row(name="relu", pattern=RELU, kernels=[Kernel.STATIC, Kernel.FLOAT], constraints=[refuses_float])
    module = graph_of(lambda x: x.relu().tanh(), ROW)
    table = SupportTable([both, Row(name="tanh", pattern=unary("tanh"), kernels=[Kernel.FLOAT])])
    static = match_table(table, GraphView(module), Kernel.STATIC)
    floating = match_table(table, GraphView(module), Kernel.FLOAT)
    assert [site.row.name for site in static.sites] == ["relu"]
    assert [site.row.name for site in floating.sites] == ["tanh"]
    assert [miss.reason for miss in floating.misses] == ["not in float"]


def test_closed_node_stops_every_row_over_it() -> None:
    """A longer row that would cover a closed node gives way to a shorter one beside it."""
    module = graph_of(lambda x: x.relu().tanh(), ROW)
    rows = [row("relu_tanh", unary("relu", "tanh")), row("tanh", unary("tanh")), row("relu", RELU)]
    assert found(rows, module, is_open=lambda node: node.name != "relu") == [("tanh", "tanh")]
    assert match(rows, module, is_open=lambda node: False).misses == ()


def test_recipe_reaches_the_constraints() -> None:
    """A constraint can depend on the recipe that is asked for."""
    seen: list[Recipe | None] = []

    @constraint("looks")
    def looks(site: Site) -> None:
        seen.append(site.recipe)

    fp32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
    module = graph_of(lambda x: x.relu(), ROW)
    match([row("relu", RELU, constraints=[looks])], module, recipe=fp32)
    match([row("relu", RELU, constraints=[looks])], module)
    assert seen == [fp32, None]


def test_dynamic_shapes() -> None:
    """Sites are found where sizes are symbols; numbers computed from them are no operators of a row."""
    side = torch.export.Dim("side", min=4, max=64)
    conv = nn.Conv2d(3, 3, 1)
    module = graph_of(
        lambda x: conv(x).relu().view(x.shape[0], 3, -1) * x.shape[2], IMAGE, dynamic=({2: side},)
    )
    rows = [
        row("conv_relu", op("relu", self=CONV)),
        row("view", op("view", self="input")),
        row("mul", op("mul", self="input", other="other")),
    ]
    assert found(rows, module) == [("conv_relu", "conv2d", "relu"), ("view", "view")]


def test_several_outputs() -> None:
    """Operators with several results and what takes one of them out can be rows, or stand in between."""
    module = graph_of(lambda x: [part.relu() for part in x.split(1)], ROW)
    assert found([row("relu", RELU)], module) == [("relu", "relu"), ("relu", "relu_1")]
    rows = [row("split", op("split", self="input")), row("item", Op(("getitem",), (("0", "input"),)))]
    assert found(rows, module) == [("split", "split"), ("item", "getitem"), ("item", "getitem_1")]


def test_one_module_used_twice() -> None:
    """Each call is a site of its own, with the same weight."""
    conv = nn.Conv2d(3, 3, 1)
    module = graph_of(nn.Sequential(conv, conv), IMAGE)
    roles = {"weight": Role.WEIGHT, "bias": Role.BIAS}
    sites = match([row("conv", CONV, roles=roles)], module).sites
    assert [site.output for site in sites] == nodes_of(module, "conv2d")
    assert len({site.captures["weight"].target for site in sites}) == 1


def test_operator_in_place_is_named_as_such() -> None:
    """A row has an in-place operator only where its pattern says so."""
    module = graph_of(lambda x: (x + 1).relu_(), ROW)
    assert found([row("relu", RELU)], module) == []
    assert found([row("relu", op("relu", "relu_", self="input"))], module) == [("relu", "relu_")]
    assert found([row("in_place", op("relu_", self="input"))], module) == [("in_place", "relu_")]


def test_matching_is_pure() -> None:
    """Neither graph nor metadata changes."""
    module = graph_of(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), IMAGE)
    before = [(node.name, node.args, dict(node.meta)) for node in module.graph.nodes]
    match([row("conv_relu", op("relu", self=CONV))], module)
    assert [(node.name, node.args, node.meta) for node in module.graph.nodes] == before


def test_work_is_linear_in_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times the nodes are twenty times the attempts: a row is tried where its output could be."""
    attempts = 0

    def counted(*args: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return bind(*args)

    monkeypatch.setattr(evaluation, "bind", counted)
    counts = []
    for blocks in (1, 20):
        attempts = 0
        module = random_chain(blocks)
        assert len(found(OVERLAPPING, module)) >= 3 * blocks
        counts.append(attempts)
    assert counts[1] == 20 * counts[0]


def random_chain(blocks: int) -> fx.GraphModule:
    graph = fx.Graph()
    node = graph.placeholder("x")
    for _ in range(blocks):
        for name in ("relu", "tanh", "sigmoid", "sigmoid"):
            node = graph.call_function(getattr(torch.ops.aten, name).default, (node,))
    graph.output((node,))
    return fx.GraphModule(nn.Module(), graph)


def test_sites_and_misses_keep_graph_order() -> None:
    """Sites are in the order of their outputs, whatever their length."""
    module = graph_of(lambda x: (x.sigmoid(), x.relu().tanh().relu(), x.tanh()), ROW)
    names = [site.output.name for site in match(OVERLAPPING, module).sites]
    positions = [list(module.graph.nodes).index(node_of_name(module, name)) for name in names]
    assert positions == sorted(positions)
    assert len(names) == 3


def node_of_name(module: fx.GraphModule, name: str) -> fx.Node:
    return next(node for node in module.graph.nodes if node.name == name)
