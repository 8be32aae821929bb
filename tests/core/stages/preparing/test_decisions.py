"""One decision for each call node: its verdict, what brought it about, and where lowering put the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from flow_nets import BACKEND, images, prepared, rand, seeded
from torch import nn

from quanthost.stages.preparing.decisions import place
from quanthost.toolchain.edge import EdgeResult, Piece
from quanthost.values import Cause, Decision, Override, Verdict

IMAGE = images(1)[0]


class Kinds(nn.Module):
    """A node of each kind: fused, folded, by a row alone, by cost, constraint, override, without a row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.wide = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.kept, self.head, self.drop = nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout()
        seeded(self)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = F.relu(self.norm(self.stem(x)))
        y = self.wide(F.max_pool2d(y, 2)).mean((2, 3))
        low, high = self.drop(self.head(y)).chunk(2, 1)
        scores = torch.cumsum(self.kept(y), 1)
        values, order = scores.sort(1)
        return low + high, values * 2, order


def decisions(model: nn.Module, *inputs: torch.Tensor, **asked: Any) -> dict[str, Decision]:
    return {decision.node: decision for decision in prepared(model, inputs, **asked).decisions}


@pytest.fixture(scope="module")
def kinds() -> dict[str, Decision]:
    return decisions(Kinds(), IMAGE, overrides=(Override(module_name="kept", keep_float=True),))


def summary(decision: Decision) -> tuple[Verdict, Cause, str | None, str]:
    return decision.verdict, decision.cause, decision.row, decision.reason


class Cumsum(nn.Module):
    """An operator that no backend has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(1)


FOLDED = "folded into the weights of its neighbour, or without effect on the outputs"
NO_ROW = "xnnpack_like has no int8 kernel for {}"
EXPECTED = {
    "conv2d": (Verdict.QUANTIZED, Cause.ROW, "conv_relu", "row conv_relu, fused with 1 more"),
    "batch_norm": (Verdict.FOLDED, Cause.CONSTANT, None, FOLDED),
    "relu": (Verdict.QUANTIZED, Cause.ROW, "conv_relu", "row conv_relu, fused with 1 more"),
    "max_pool2d": (Verdict.QUANTIZED, Cause.ROW, "max_pool2d", "row max_pool2d"),
    "conv2d_1": (Verdict.QUANTIZED, Cause.ROW, "conv", "row conv"),
    "mean": (Verdict.QUANTIZED, Cause.ROW, "mean", "row mean"),
    "linear": (Verdict.QUANTIZED, Cause.ROW, "linear", "row linear"),
    "dropout": (Verdict.FOLDED, Cause.CONSTANT, None, FOLDED),
    "linear_1": (
        Verdict.FLOAT, Cause.OVERRIDE, None, "kept in float by override(module_name='kept', keep_float=True)",
    ),
    "cumsum": (Verdict.FLOAT, Cause.NO_ROW, None, NO_ROW.format("cumsum")),
    "sort": (Verdict.FLOAT, Cause.NO_ROW, None, NO_ROW.format("sort")),
    "getitem_2": (Verdict.FLOAT, Cause.FUSED, None, "reads a result of sort"),
    "getitem_3": (Verdict.FLOAT, Cause.FUSED, None, "reads a result of sort"),
}  # fmt: skip


@pytest.mark.parametrize("node", EXPECTED)
def test_verdict_cause_row_and_reason(kinds: dict[str, Decision], node: str) -> None:
    """Each kind of node, on one graph."""
    assert summary(kinds[node]) == EXPECTED[node]


def test_cost(kinds: dict[str, Decision]) -> None:
    """An operator that costs more than it gains says which tensors nobody else uses as integers."""
    assert (kinds["add"].verdict, kinds["add"].cause) == (Verdict.FLOAT, Cause.COST)
    assert kinds["add"].reason.startswith("left in float: no neighbouring operator uses ")


def test_quantized_nodes_know_their_backend_and_recipe(kinds: dict[str, Decision]) -> None:
    """The others have neither."""
    owners = {decision.verdict: (decision.backend, decision.recipe) for decision in kinds.values()}
    assert owners[Verdict.QUANTIZED] == (BACKEND, "int8_static")
    assert owners[Verdict.FLOAT] == owners[Verdict.FOLDED] == (None, None)


def test_provenance(kinds: dict[str, Decision]) -> None:
    """Module and line of the user's code."""
    assert kinds["linear_1"].module == "kept"
    assert kinds["linear_1"].operator == "aten.linear.default"
    assert "test_decisions.py:" in str(kinds["linear_1"].source)


def test_a_constraint_is_the_reason() -> None:
    """The row that would have held, and why it does not."""
    (found,) = decisions(seeded(nn.Conv1d(2, 2, 2)), rand(2, 4)).values()
    assert summary(found) == (
        Verdict.FLOAT, Cause.CONSTRAINT, None,
        "row conv of xnnpack_like: the input has rank 2: there is no batch dimension",
    )  # fmt: skip


def test_float_recipes_quantize_nothing() -> None:
    """Every node that is left has the recipe as its reason."""
    made = decisions(Kinds(), IMAGE, recipe="fp32")
    left = [decision for decision in made.values() if decision.verdict is Verdict.FLOAT]
    reasons = {(d.cause, d.reason) for d in left if d.cause is not Cause.FUSED}
    assert reasons == {(Cause.RECIPE, "the recipe fp32 quantizes nothing")}
    assert not [d for d in made.values() if d.verdict is Verdict.QUANTIZED]


REWRITTEN: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str, Verdict, str | None]] = {
    "all of it": (lambda y: F.silu(y), "silu", Verdict.QUANTIZED, "sigmoid"),
    "what computes": (
        lambda y: y.view(2, 2, 2, 2).mean((2, 3)).repeat(1, 4),
        "mean",
        Verdict.QUANTIZED,
        "mean",
    ),
    "views alone": (lambda y: torch.stack([y.select(1, 0)] * 8, 1), "select", Verdict.QUANTIZED, "slice"),
    "the views around it": (lambda y: F.layer_norm(y, (8,)), "layer_norm", Verdict.FLOAT, None),
}


@pytest.mark.parametrize(("between", "node", "verdict", "row"), REWRITTEN.values(), ids=REWRITTEN.keys())
def test_a_node_that_was_rewritten(
    between: Callable[[torch.Tensor], torch.Tensor], node: str, verdict: Verdict, row: str | None
) -> None:
    """It is quantized where all that computes in it is; views around float arithmetic do not count."""

    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
            seeded(self)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.last(between(self.first(x)))
            return y

    made = decisions(Between(), rand(2, 8), placement="all")[node]
    assert (made.verdict, made.row) == (verdict, row)


def placed(
    *edges: tuple[str | None, str],
    pieces: tuple[tuple[str, ...], ...] = (),
    delegating: tuple[str, ...] = ("first", "second"),
) -> dict[str, Decision]:
    """Decisions on nodes a, b and c after a lowering that left ``edges`` outside."""
    before = [
        Decision(node=name, operator="aten.x", verdict=Verdict.FLOAT, cause=Cause.NO_ROW, reason="r")
        for name in "abc"
    ]
    made = tuple(
        Piece(delegate=f"D{number}", origins=frozenset(names), operators=len(names), results=1)
        for number, names in enumerate(pieces)
    )
    edge = EdgeResult(buffer=b"", pieces=made, outside=edges)
    return {decision.node: decision for decision in place(before, edge, delegating)}


def test_placement_in_a_delegate() -> None:
    """With the partition's number; what several partitions hold parts of is counted to the first."""
    made = placed(pieces=(("a",), ("a", "b")))
    assert (made["a"].delegated, made["a"].partition, made["a"].placement) == (
        True,
        "D0/0",
        "taken by the delegate",
    )
    assert made["b"].partition == "D1/1"


@pytest.mark.parametrize(
    ("delegating", "refusal"),
    [(("first", "second"), ": no row of first or second takes it there"), ((), "")],
    ids=["with delegates", "without"],
)
def test_placement_outside(delegating: tuple[str, ...], refusal: str) -> None:
    """Which operators the runtime's own kernels run for it, each once; no delegate, no refusal."""
    edges = (("a", "aten.mul"), ("a", "aten.mul"), ("a", "aten.add"), (None, "aten.clone"))
    made = placed(*edges, delegating=delegating)
    assert made["a"].delegated is False
    assert made["a"].partition is None
    assert made["a"].placement == f"the runtime's own kernels run aten.mul, aten.add{refusal}"


def test_placement_in_part() -> None:
    """A node that was taken apart, of which not all lies in the delegate."""
    made = placed(("a", "aten.mul"), pieces=(("a",),))
    assert (made["a"].delegated, made["a"].placement) == (True, "in part; outside: aten.mul")


def test_nothing_left() -> None:
    """A node that lowering removed; the field says the same as the text."""
    made = placed(("b", "aten.mul"), pieces=(("a",),))
    assert (made["c"].delegated, made["c"].placement) == (False, "nothing of it is left in the program")
    assert {name: decision.in_program for name, decision in made.items()} == {
        "a": True, "b": True, "c": False,
    }  # fmt: skip


def test_each_kind_of_kernel_has_a_name() -> None:
    """The reason names the kernel that the recipe needs, and every backend that lacks it."""
    for recipe, kernel in {
        "int8_static": "int8", "int8_dynamic": "dynamic int8", "int8_weight_only": "weight-only",
    }.items():  # fmt: skip
        (decision,) = decisions(Cumsum(), rand(2, 4), recipe=recipe).values()
        assert decision.reason == f"xnnpack_like has no {kernel} kernel for cumsum"


def test_verdicts_stay_as_they_were() -> None:
    """Lowering adds to a decision, and changes nothing of it."""
    made = placed(pieces=(("a",),))
    assert {(d.verdict, d.cause, d.reason) for d in made.values()} == {(Verdict.FLOAT, Cause.NO_ROW, "r")}
