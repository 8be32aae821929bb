"""Snapshots as files: written whole, read back, and records of programs taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import quanthost
from quanthost import inspection
from quanthost.errors import ProgramError, RequestError
from quanthost.host.snapshots import load_snapshot, save_snapshot
from quanthost.values.decision_snapshot import Snapshot

BACKEND = "xnnpack_like"


@pytest.fixture(scope="module")
def captured() -> quanthost.stages.capturing.capture.CapturedModel:
    return quanthost.capture(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), (torch.ones(1, 4),))


@pytest.fixture(scope="module")
def made(captured: quanthost.stages.capturing.capture.CapturedModel) -> Snapshot:
    kept = quanthost.Override(module_name="0", keep_float=True)
    return inspection.snapshot_decisions({"net": captured}, BACKEND, overrides=[kept], placement="all")


def test_it_says_who_decided_what(made: Snapshot) -> None:
    """Plugins with their distributions, versions of the toolchain, the request and the decisions."""
    (plugin,) = made.plugins
    assert (plugin.name, plugin.distribution) == (BACKEND, "quanthost-xnnpack-like")
    assert [name for name, _ in made.versions] == ["quanthost", "torch", "torchao", "executorch"]
    assert (made.recipe, made.placement, len(made.overrides)) == (
        "int8_static",
        quanthost.values.Placement.ALL,
        1,
    )
    assert [d.cause.value for d in made.models[0].decisions] == ["override", "row"]


def test_saved_and_loaded(made: Snapshot, tmp_path: Path) -> None:
    """The same value."""
    save_snapshot(made, tmp_path / "a.json")
    assert load_snapshot(tmp_path / "a.json") == made
    with pytest.raises(ProgramError, match="No such file"):
        save_snapshot(made, tmp_path / "absent" / "a.json")


def test_the_record_of_a_program_is_one(tmp_path: Path) -> None:
    """With the decisions of the program, placed; its qspecs are not known."""
    model, inputs = nn.Linear(4, 4).eval(), (torch.ones(1, 4),)
    program = quanthost.quantize(model, inputs, BACKEND, "int8_dynamic")
    program.save(tmp_path / "net.pte")
    found = load_snapshot(tmp_path / "net.json")
    (held,) = found.models
    assert held.decisions == program.decisions
    assert (held.name, held.qspecs, found.placement) == (program.record.model, None, None)
    decided = inspection.snapshot_decisions(
        {"net": quanthost.capture(model, inputs)}, BACKEND, "int8_dynamic"
    )
    assert inspection.compare_decisions(found, decided).equal


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        ("{", "Expecting property name"),
        ("[]", "it has the format None, and this quanthost reads 1"),
        ('{"format": 2}', "it has the format 2, and this quanthost reads 1"),
        ('{"format": 1}', "Snapshot that does not fit"),
        ("\xff", "codec can't decode"),
    ],
    ids=["missing", "torn", "list", "other_format", "empty", "binary"],
)
def test_what_is_no_snapshot_is_refused(tmp_path: Path, content: str | None, told: str) -> None:
    """With what is wrong and what is needed."""
    file = tmp_path / "a.json"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(RequestError, match=told) as caught:
        load_snapshot(file)
    assert "a file that 'quanthost decisions' wrote" in caught.value.needed


def test_a_field_that_does_not_fit_is_named(made: Snapshot, tmp_path: Path) -> None:
    """A file that was edited by hand says where."""
    save_snapshot(made, tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    data["models"][0]["decisions"][0]["verdict"] = "perhaps"
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(RequestError, match="needed one of quantized, float, folded"):
        load_snapshot(tmp_path / "a.json")
