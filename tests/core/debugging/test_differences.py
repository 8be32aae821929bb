"""Snapshots of decisions and what differs between them: real tables, changed on purpose."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from flow_nets import BACKEND, Net, images, seeded
from torch import nn

import quanthost
from quanthost.api import DType, QSpec, Row, SupportTable, TableBackend, constraint
from quanthost.debugging.differences import compare_decisions
from quanthost.debugging.snapshot import model_decisions
from quanthost.errors import RequestError
from quanthost.hooks.manager import Plugins
from quanthost.host.requests import resolve
from quanthost.host.target import Target
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.values import Decision, PluginRecord, Request, from_json, to_json
from quanthost.values.decision_snapshot import Change, Differences, ModelDecisions, NodeDifferences, Snapshot

IMAGE = images(1)[0]
Edit = Callable[[Row], Row | None]


@constraint("at most 4 channels")
def few_channels(site: Any) -> str | None:
    return None if site.shape("weight")[0] <= 4 else "too many channels"


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        seeded(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(x)
        return made


@pytest.fixture(scope="module")
def captured() -> CapturedModel:
    return quanthost.capture(Net(), (IMAGE,))


def snapshot(captured: CapturedModel, edit: Edit = lambda row: row, version: str = "1") -> Snapshot:
    """The decisions of the backend's table after an edit of each row (``None`` deletes it)."""
    known = resolve(Target(backend=BACKEND))[0].plugin(BACKEND)
    assert isinstance(known, TableBackend)
    rows = [made for row in known.table if (made := edit(row)) is not None]
    plugins = Plugins([(BACKEND, attrs.evolve(known, table=SupportTable(rows)))])
    request = Request(backends=plugins.backends, recipe="int8_static")
    return Snapshot(
        backends=request.backends, recipe=request.recipe, versions=(("torch", "2"),),
        plugins=(PluginRecord(name=BACKEND, distribution="dist", version=version),),
        models=(model_decisions("net", captured, plugins, request),),
    )  # fmt: skip


def changes(found: Differences) -> dict[str, dict[str, tuple[str, str]]]:
    """What differs at each node of the only model."""
    (model,) = found.models
    return {n.node: {c.what: (c.before, c.after) for c in n.changes} for n in model.nodes}


def test_the_same_table_decides_the_same(captured: CapturedModel) -> None:
    """Equal, whoever made them; the versions are told."""
    found = compare_decisions(snapshot(captured), snapshot(captured, version="2"))
    assert found.equal
    assert found.made_by == (Change(what=f"{BACKEND} (dist)", before="1", after="2"),)


def test_round_trip(captured: CapturedModel) -> None:
    """A snapshot and its differences are JSON and back."""
    made = snapshot(captured)
    assert from_json(Snapshot, to_json(made)) == made
    found = compare_decisions(made, snapshot(captured, lambda row: None if row.name == "linear" else row))
    assert from_json(Differences, to_json(found)) == found


def test_qspecs_are_kept_where_they_are_read(captured: CapturedModel) -> None:
    """Of a fused pattern the input and weight at the convolution, the output at the ReLU."""
    (model,) = snapshot(captured).models
    assert model.qspecs is not None
    specs = {each.node: [capture for capture, _ in each.qspecs] for each in model.qspecs}
    assert specs["conv2d"] == ["input", "weight"]
    assert specs["relu"] == ["output"]
    assert specs["linear"] == ["input", "output", "weight"]


def test_a_row_that_is_gone(captured: CapturedModel) -> None:
    """The fused row's nodes fall to shorter rows; the summary counts nodes by row."""
    found = compare_decisions(
        snapshot(captured), snapshot(captured, lambda row: None if row.name == "conv_relu" else row)
    )
    assert not found.equal
    assert found.models[0].rows == (("conv", 0, 1), ("conv_relu", 2, 0), ("relu", 0, 1))
    told = changes(found)
    assert told["conv2d"]["row"] == ("conv_relu", "conv")
    assert told["conv2d"]["reason"] == ("row conv_relu, fused with 1 more", "row conv")
    assert told["conv2d"]["qspec of output"][0] == "float"
    assert set(told) == {"conv2d", "relu"}


def test_a_constraint_that_is_new(captured: CapturedModel) -> None:
    """Verdict, cause and reason change, and the nodes that depend on it."""

    def edit(row: Row) -> Row:
        more = [few_channels] if row.name.startswith("conv") else []
        return attrs.evolve(row, constraints=(*row.constraints, *more))

    told = changes(compare_decisions(snapshot(captured), snapshot(captured, edit)))
    assert told["conv2d"]["verdict"] == ("quantized", "float")
    assert told["conv2d"]["cause"] == ("row", "constraint")
    assert told["conv2d"]["reason"][1].endswith("too many channels")


def test_a_qspec_alone(captured: CapturedModel) -> None:
    """Only the fields that differ are shown."""
    wider = QSpec(dtype=DType.INT8, quant_min=-100)

    def edit(row: Row) -> Row:
        return attrs.evolve(row, qspecs={"output": wider}) if row.name == "linear" else row

    told = changes(compare_decisions(snapshot(captured), snapshot(captured, edit)))
    assert list(told) == ["linear"]
    before, after = told["linear"]["qspec of output"]
    assert (before[:23], after[:23]) == ("QSpec(quant_min=-128, e", "QSpec(quant_min=-100, e")
    assert "dtype" not in before + after


def decision(node: str, **more: Any) -> Decision:
    return from_json(Decision, to_json(attrs.evolve(_PLAIN, node=node, **more)))


_PLAIN = from_json(
    Decision,
    '{"node": "n", "operator": "aten.relu.default", "verdict": "float", "cause": "no_row", "reason": "r"}',
)


def of(*decisions: Decision, name: str = "net", digest: str = "d", **more: Any) -> Snapshot:
    model = ModelDecisions(name=name, digest=digest, decisions=decisions)
    return Snapshot(
        **{"backends": ("b",), "recipe": "r", "plugins": (), "versions": (), "models": (model,), **more}
    )


def test_nodes_that_one_side_lacks() -> None:
    """They are named, and the changed model is said."""
    found = compare_decisions(of(decision("a"), decision("b")), of(decision("b"), decision("c"), digest="e"))
    model = found.models[0]
    assert model.nodes == (
        NodeDifferences(
            node="a", operator="aten.relu.default",
            changes=(Change(what="node", before="present", after="absent"),),
        ),
        NodeDifferences(
            node="c", operator="aten.relu.default",
            changes=(Change(what="node", before="absent", after="present"),),
        ),
    )  # fmt: skip
    assert (model.total, model.note) == (3, "the model itself, or its weights, changed")


def test_what_only_lowering_knows_is_compared_where_both_know_it() -> None:
    """A snapshot beside a program's record; partition numbers and source lines are no decisions."""
    known = decision("a", delegated=True, placement="p", partition="X/0", source="x.py:1")
    assert compare_decisions(of(decision("a")), of(known)).equal
    moved = attrs.evolve(known, partition="X/7", source="x.py:2")
    assert compare_decisions(of(known), of(moved)).equal
    found = compare_decisions(of(known), of(attrs.evolve(known, delegated=False)))
    assert changes(found) == {"a": {"delegated": ("True", "False")}}


def test_what_was_asked_differently_is_said_once() -> None:
    """Another recipe and another backend are no change of each node."""
    old = of(decision("a", recipe="r", backend="b"))
    new = of(decision("a", recipe="s", backend="c"), recipe="s", backends=("c",))
    found = compare_decisions(old, new)
    assert found.equal
    assert found.made_by == (
        Change(what="backends", before="b", after="c"), Change(what="recipe", before="r", after="s"),
    )  # fmt: skip


def test_models_by_name() -> None:
    """One model each is compared whatever the names; of several, those that only one side has are said."""
    assert compare_decisions(of(decision("a")), of(decision("a"), name="other")).equal
    one = of(decision("a"))
    two = attrs.evolve(one, models=(*one.models, attrs.evolve(one.models[0], name="more")))
    found = compare_decisions(one, two)
    assert [(model.name, model.only_in) for model in found.models] == [("net", ""), ("more", "new")]
    assert not found.equal
    with pytest.raises(RequestError, match="decisions on net, more and on other"):
        compare_decisions(two, of(decision("a"), name="other"))


def test_two_files_are_compared_without_torch() -> None:
    """Reading and comparing loads no toolchain."""
    code = (
        "import sys, quanthost.host.snapshots, quanthost.debugging.differences\n"
        "import quanthost.report.differences_text\n"
        "print(sorted({'torch', 'executorch', 'networkx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
