"""Decisions that are kept: JSON and back, and when two are equal."""

from __future__ import annotations

from quanthost.values import DType, QSpec, from_json, to_json
from quanthost.values.decision_snapshot import (
    Change,
    Differences,
    ModelDecisions,
    ModelDifferences,
    NodeDifferences,
    NodeQSpecs,
    Snapshot,
)

CHANGE = Change(what="row", before="conv", after="conv_relu")
NODE = NodeDifferences(node="conv2d", operator="aten.conv2d.default", changes=(CHANGE,))


def test_json_and_back() -> None:
    """Equal, also where qspecs are not known."""
    specs = NodeQSpecs(node="conv2d", qspecs=(("output", QSpec(dtype=DType.INT8)),))
    known = ModelDecisions(name="net", digest="d", decisions=(), qspecs=(specs,))
    unknown = ModelDecisions(name="other", digest="d", decisions=())
    snapshot = Snapshot(
        backends=("npu",), recipe="int8_static", plugins=(), versions=(), models=(known, unknown)
    )

    assert from_json(Snapshot, to_json(snapshot)) == snapshot
    assert snapshot.models[1].qspecs is None


def test_what_makes_two_unequal() -> None:
    """A node that differs, or a model that one side lacks; not who made them."""
    same = ModelDifferences(name="net", total=3)
    assert Differences(made_by=(CHANGE,), models=(same,)).equal
    for other in (
        ModelDifferences(name="net", total=3, nodes=(NODE,)),
        ModelDifferences(name="net", total=3, only_in="old"),
    ):
        assert not Differences(made_by=(), models=(same, other)).equal
