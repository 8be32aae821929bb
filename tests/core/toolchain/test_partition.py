"""Partitions of claims: as large as the graph allows, whole claims or none, no piece of mere conversions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs
import pytest
import torch
from executorch.exir import EdgeCompileConfig, to_edge
from executorch.exir.backend.compile_spec_schema import CompileSpec
from flow_nets import rand
from torch import fx, nn
from torch.export import ExportedProgram

from quanthost.api import Kernel, Row, op
from quanthost.graph.operators import operator_name
from quanthost.graph.table import Claim, Site
from quanthost.graph.view import GraphView
from quanthost.toolchain.partition import ClaimPartitioner

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
WORK = Row(name="work", pattern=op("x", self="input"), kernels={Kernel.FLOAT})
MOVE = attrs.evolve(WORK, name="convert", converts=True)
X = rand(2, 4)


class Body(nn.Module):
    """Computes what a test asks for, with a weight beside it."""

    def __init__(self, body: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.body = body
        self.weight = nn.Parameter(rand(2, 4, seed=3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x, self.weight)


def edge_of(body: Callable[..., torch.Tensor]) -> ExportedProgram:
    exported = torch.export.export(Body(body), (X,))
    return to_edge(exported, compile_config=EdgeCompileConfig(_check_ir_validity=False)).exported_program()


def base_of(node: fx.Node) -> str:
    """``"relu"`` of ``aten.relu.default``."""
    return operator_name(node).split(".")[-2] if "." in operator_name(node) else operator_name(node)


def claims_of(edge: ExportedProgram, *groups: Sequence[str], row: Row = WORK) -> list[Claim]:
    """A claim for each group of operators, by base name in order of the graph (``"relu"``)."""
    view = GraphView(edge.graph_module, edge)
    nodes = [node for node in edge.graph.nodes if node.op == "call_function"]
    found = []
    for names in groups:
        taken = tuple(next(node for node in nodes if base_of(node) == name) for name in names)
        site = Site(row=row, kernel=Kernel.FLOAT, view=view, nodes=taken, captures={})
        found.append(Claim(site=site, nodes=taken))
    return found


def partitioned(
    edge: ExportedProgram, claims: Iterable[Claim], told: list[Claim] | None = None
) -> dict[str, set[str]]:
    """The tags with the base names of the operators that have them."""
    listed = list(claims)
    mark: Callable[[Claim], None] = told.append if told is not None else lambda _: None
    partitioner = ClaimPartitioner(
        name="b", delegate="D", find=lambda _: listed, keep=lambda _: (), mark=mark
    )
    result = partitioner.partition(edge)
    assert result.tagged_exported_program is edge
    tags: dict[str, set[str]] = {tag: set() for tag in result.partition_tags}
    for node in edge.graph.nodes:
        tag = node.meta.get("delegation_tag")
        if tag is not None and node.op == "call_function":
            tags[tag].add(base_of(node))
    return tags


def chain(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.exp(torch.relu(x)).cumsum(1).abs().neg()


def test_neighbours_make_one_partition() -> None:
    """Claims that touch are one piece; what is not claimed divides them."""
    edge = edge_of(chain)
    tags = partitioned(edge, claims_of(edge, ["relu"], ["exp"], ["abs"], ["neg"]))
    assert tags.keys() == {"b_0", "b_1"}
    assert sorted(map(sorted, tags.values())) == [["abs", "neg"], ["exp", "relu"]]


def test_nothing_is_claimed() -> None:
    """No tag at all."""
    edge = edge_of(chain)
    assert partitioned(edge, []) == {}
    assert not [node for node in edge.graph.nodes if "delegation_tag" in node.meta]


def around(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    y = torch.relu(x)
    return torch.abs(y) * torch.cumsum(y, 1)


def test_a_partition_does_not_close_a_circle() -> None:
    """Before and after an operator that stays outside are two pieces."""
    edge = edge_of(around)
    tags = partitioned(edge, claims_of(edge, ["relu"], ["abs"], ["mul"]))
    home = {name: tag for tag, names in tags.items() for name in names}
    assert home["relu"] != home["mul"]
    assert set(home) == {"relu", "abs", "mul"}


def sorted_twice(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    values, places = torch.sort(x, 1)
    return values.abs() + torch.cumsum(places, 1)


def test_a_claim_is_taken_whole_or_not_at_all() -> None:
    """A tuple's reader goes where the tuple is made, and tears its claim apart: that one is given up."""
    edge = edge_of(sorted_twice)
    told: list[Claim] = []
    claims = claims_of(edge, ["sort"], ["getitem", "abs", "add"])
    assert partitioned(edge, claims, told) == {"b_0": {"sort"}}
    assert told == claims[:1]


def test_what_an_earlier_partitioner_left_is_not_taken_along() -> None:
    """Each takes what it claims, whatever was grouped and given up before it."""
    edge = edge_of(chain)
    assert partitioned(edge, claims_of(edge, ["relu"], ["abs"], row=MOVE)) == {}
    tags = partitioned(edge, claims_of(edge, ["exp"], ["neg"]))
    assert sorted(map(sorted, tags.values())) == [["exp"], ["neg"]]


def test_conversions_alone_are_no_partition() -> None:
    """A piece that only converts would cost more than it brings; beside work it is taken along."""
    edge = edge_of(chain)
    told: list[Claim] = []
    claims = [*claims_of(edge, ["relu"], ["neg"], row=MOVE), *claims_of(edge, ["exp"])]
    tags = partitioned(edge, claims, told)
    assert list(tags.values()) == [{"relu", "exp"}]
    assert told == [claims[0], claims[2]]


def test_constants_go_with_their_users() -> None:
    """A weight that only delegated operators read is the delegate's."""
    edge = edge_of(lambda x, w: torch.relu(x + w).cumsum(1))
    tags = partitioned(edge, claims_of(edge, ["add"], ["relu"]))
    (tag,) = tags
    (weight,) = (n for n in edge.graph.nodes if n.op == "placeholder" and "weight" in n.name)
    assert weight.meta["delegation_tag"] == tag


def test_constants_with_another_user_stay() -> None:
    """Of two users one is outside."""
    edge = edge_of(lambda x, w: torch.relu(x + w) + w.cumsum(1))
    partitioned(edge, claims_of(edge, ["relu"]))
    (weight,) = (n for n in edge.graph.nodes if n.op == "placeholder" and "weight" in n.name)
    assert "delegation_tag" not in weight.meta


def test_tags_name_the_delegate_and_its_options() -> None:
    """Each partition is for the delegate that the partitioner was made for."""
    edge = edge_of(chain)
    spec = CompileSpec("level", b"\x01")
    partitioner = ClaimPartitioner(
        name="mine",
        delegate="D",
        find=lambda e: claims_of(e, ["exp"]),
        keep=lambda _: (),
        compile_specs=[spec],
    )
    tags = partitioner.partition(edge).partition_tags
    assert list(tags) == ["mine_0"]
    assert tags["mine_0"].backend_id == "D"
    assert tags["mine_0"].compile_specs == [spec]


@pytest.mark.parametrize("kept", [[], [torch.ops.aten.linear.default]], ids=["none", "linear"])
def test_operators_that_are_kept(kept: list[torch._ops.OpOverload]) -> None:
    """As a list, with no check of single nodes, which would cost decompositions."""
    partitioner = ClaimPartitioner(name="b", delegate="D", find=lambda _: [], keep=lambda _: iter(kept))
    exported = torch.export.export(nn.Linear(4, 4), (X,))
    assert partitioner.ops_to_not_decompose(exported) == (kept, None)


def test_the_order_of_claims_does_not_matter() -> None:
    """The same operators have the same neighbours."""

    def pieces(order: int) -> set[frozenset[str]]:
        edge = edge_of(chain)
        claims = claims_of(edge, ["relu"], ["exp"], ["abs"], ["neg"])[::order]
        return {frozenset(names) for names in partitioned(edge, claims).values()}

    assert pieces(1) == pieces(-1) == {frozenset({"relu", "exp"}), frozenset({"abs", "neg"})}


def test_what_is_kept_is_asked_once_for_a_graph() -> None:
    """ExecuTorch asks twice for the same graph; a changed one is looked at anew."""
    edge = edge_of(lambda x, weight: torch.relu(x) + weight)
    asked: list[int] = []

    def keep(program: ExportedProgram) -> list[torch._ops.OpOverload]:
        asked.append(len(program.graph.nodes))
        return [torch.ops.aten.relu.default]

    partitioner = ClaimPartitioner(name="p", delegate="d", find=lambda _: [], keep=keep)

    for _ in range(2):
        assert partitioner.ops_to_not_decompose(edge) == ([torch.ops.aten.relu.default], None)
    assert len(asked) == 1
    (add,) = [node for node in edge.graph.nodes if base_of(node) == "add"]
    add.args = add.args[::-1]
    partitioner.ops_to_not_decompose(edge)
    assert len(asked) == 2
