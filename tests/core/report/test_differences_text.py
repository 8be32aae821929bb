"""Differences between decisions in words."""

from __future__ import annotations

from rich.console import Console

from quanthost.report.differences_text import differences
from quanthost.values.decision_snapshot import Change, Differences, ModelDifferences, NodeDifferences


def _printed(found: Differences) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        for part in differences(found):
            console.print(part)
    return captured.get()


def test_nodes_that_differ_alike_stand_together() -> None:
    """One heading for them, then what differs, with both sides."""
    change = Change(what="row", before="conv", after="conv_relu")
    nodes = [
        NodeDifferences(node=f"conv2d_{number}", operator="aten.conv2d.default", changes=(change,))
        for number in range(8)
    ]
    model = ModelDifferences(name="net", total=9, nodes=tuple(nodes), rows=(("conv", 8, 0),))
    text = _printed(Differences(made_by=(Change(what="torch", before="1", after="2"),), models=(model,)))

    assert "net: 8 of 9 nodes differ" in text
    assert "conv2d_4, conv2d_5 and 2 more" in text
    assert text.count("conv → conv_relu") == 1
    assert "1 → 2" in text


def test_a_model_on_one_side() -> None:
    """It is named with its side."""
    model = ModelDifferences(name="net", total=0, only_in="new")

    assert "net: only the new decisions have this model" in _printed(Differences(made_by=(), models=(model,)))
