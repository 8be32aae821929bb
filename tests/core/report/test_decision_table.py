"""Counting and grouping includes every decision."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from quanthost.report.decision_table import group_decisions, headlines, listing, short_operator, summary
from quanthost.values import Cause, Decision, Verdict


def _quantized(node: str, operator: str = "aten.conv2d.default", **fields: object) -> Decision:
    decision = Decision(
        node=node, operator=operator, verdict=Verdict.QUANTIZED, cause=Cause.ROW, reason="row conv",
        row="conv", backend="npu", recipe="int8_static", delegated=True, partition="Npu/0",
        placement="taken by the delegate",
    )  # fmt: skip
    return attrs.evolve(decision, **fields)  # type: ignore[arg-type]  # fields of a Decision


def _float(node: str, reason: str = "no row has it", **fields: object) -> Decision:
    decision = Decision(
        node=node, operator="aten.cumsum.default", verdict=Verdict.FLOAT, cause=Cause.NO_ROW, reason=reason,
        delegated=False, placement="portable kernels run it",
    )  # fmt: skip
    return attrs.evolve(decision, **fields)  # type: ignore[arg-type]  # fields of a Decision


def _text(renderable: object, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


_DECISIONS = st.lists(
    st.builds(
        Decision,
        node=st.uuids().map(str),
        operator=st.sampled_from(["aten.relu.default", "aten.add.Tensor"]),
        verdict=st.sampled_from(Verdict),
        cause=st.sampled_from(Cause),
        reason=st.sampled_from(["one", "two", "three"]),
        row=st.sampled_from([None, "conv"]),
        delegated=st.sampled_from([True, False]),
        partition=st.sampled_from([None, "Npu/0", "Npu/1"]),
    )
)


@given(_DECISIONS)
def test_groups_hold_each_decision_once(decisions: list[Decision]) -> None:
    """The groups contain all decisions; within one, reason and piece differ, and what folded nodes were."""
    groups = group_decisions(decisions)
    members = [member for group in groups for member in group.members]
    assert sorted(member.node for member in members) == sorted(decision.node for decision in decisions)
    for group in groups:
        for member in group.members:
            assert (member.verdict, member.cause, member.delegated) == (
                group.verdict, group.cause, group.delegated,
            )  # fmt: skip
            if group.verdict is not Verdict.FOLDED and group.cause is not Cause.NO_ROW:
                assert (member.operator, member.row) == (group.operator, group.row)


def test_many_operators_without_a_row_are_one_line() -> None:
    """As a recipe for a few operators leaves them; a few have a line each, with their reasons."""
    names = ["relu", "gelu", "tanh", "view", "add", "mul"]
    decisions = [_float(name, operator=f"aten.{name}.default") for name in names]
    [group] = group_decisions(decisions)
    assert (group.operator, group.count) == ("relu, gelu, tanh, view, add, mul", 6)
    assert "no row for them with this recipe" in _text(summary(decisions), 200)
    assert len(group_decisions(decisions[:5])) == 5


def test_folded_operators_are_one_line() -> None:
    """With the most frequent of them by name."""
    names = ["view"] * 3 + ["dropout"] * 2 + ["permute", "expand"]
    decisions = [
        _float(str(number), operator=f"aten.{name}.default", verdict=Verdict.FOLDED, cause=Cause.CONSTANT)
        for number, name in enumerate(names)
    ]
    [group] = group_decisions(decisions)
    assert (group.operator, group.count) == ("view, dropout, permute and 1 more", 7)


def test_groups_are_ordered_by_verdict_then_count() -> None:
    """Quantized first, the largest group of a verdict first, a tie in graph order."""
    decisions = [
        _float("a"), _quantized("b", "aten.relu.default"), _quantized("c"), _quantized("d"),
        _quantized("e", "aten.add.Tensor"),
    ]  # fmt: skip
    shown = [(short_operator(group.operator), group.count) for group in group_decisions(decisions)]
    assert shown == [("conv2d", 2), ("relu", 1), ("add.Tensor", 1), ("cumsum", 1)]


def test_headlines_count_verdicts_causes_and_pieces() -> None:
    """Only the causes of float nodes are counted."""
    folded = _float("z", verdict=Verdict.FOLDED, cause=Cause.CONSTANT)
    decisions = [_quantized("a"), _quantized("b", partition="Npu/1"), _float("c"), folded]
    assert headlines(decisions) == (
        "4 nodes: 2 quantized, 1 float, 1 folded",
        "float because of: 1 no row",
        "delegated: 2 nodes in 2 pieces",
    )


def test_headlines_before_lowering_say_nothing_of_delegation() -> None:
    """Before lowering, the line and the column of delegation are omitted."""
    decisions = [_quantized("a", delegated=None, partition=None, placement=None)]
    assert headlines(decisions) == ("1 node: 1 quantized",)
    assert "delegated" not in _text(summary(decisions))


def test_headlines_of_nothing() -> None:
    """A program without call nodes has a line too."""
    assert headlines([]) == ("0 nodes: none",)


def test_summary_names_piece_pieces_or_none() -> None:
    """One piece has its name, several their number, a node outside ``no``, a folded one nothing."""
    folded = _float("f", operator="aten.dropout.default", verdict=Verdict.FOLDED, cause=Cause.CONSTANT)
    text = _text(
        summary([
            _quantized("a"), _quantized("b", "aten.relu.default"),
            _quantized("c", "aten.relu.default", partition="Npu/1"), _float("d"), folded,
        ])
    )  # fmt: skip
    rows = {line.split()[0]: line.split()[1:5] for line in text.splitlines()[5:]}
    assert rows["conv2d"] == ["1", "quantized", "Npu/0", "row"]
    assert rows["relu"] == ["2", "quantized", "2", "pieces"]
    assert rows["cumsum"] == ["1", "float", "no", "no"]
    assert rows["dropout"] == ["1", "folded", "no", "row"]


def test_summary_says_that_there_are_more_reasons() -> None:
    """Two reasons are both shown; of more, the first and the number of others."""
    two = _text(summary([_float("a", "first"), _float("b", "second")]), 120)
    assert "first (or: second)" in two
    three = _text(summary([_float("a", "first"), _float("b", "second"), _float("c", "third")]), 120)
    assert "first (and 2 more reasons)" in three


def test_summary_of_150_nodes_fits_a_screen() -> None:
    """Repeated nodes are one line, for any depth of the network."""
    kinds = ("conv2d", "relu", "add.Tensor", "hardswish", "mean.dim")
    decisions = [_quantized(f"n{i}", f"aten.{kinds[i % 5]}") for i in range(145)]
    decisions += [_float(f"f{i}") for i in range(5)]
    assert len(_text(summary(decisions)).splitlines()) <= 24


def test_listing_has_each_node_with_module_and_reasons() -> None:
    """Node, the module that an override would name, the verdict's reason and that of the placement."""
    text = _text(listing([_quantized("conv2d_3", module="body.4"), _float("cumsum")]), 120)
    first, second, third = text.splitlines()[1:]
    assert first.split()[:4] == ["conv2d_3", "conv2d", "quantized", "Npu/0"]
    assert "row conv; taken by the delegate" in first
    assert second.strip() == "body.4"
    assert "no row has it; portable kernels run it" in third


def test_short_operator() -> None:
    """Only the common namespace and overload are removed."""
    names = ("aten.conv2d.default", "aten.add.Tensor", "mylib.op.default", "getitem")
    assert [short_operator(name) for name in names] == ["conv2d", "add.Tensor", "mylib.op", "getitem"]
