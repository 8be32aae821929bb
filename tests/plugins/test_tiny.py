"""A backend of about 40 lines on the public interface alone: installed, listed, and its program run."""

from __future__ import annotations

from typing import Any

import pytest
from sites import TESTS, ask, install

TINY = TESTS / "tiny"
LISTING = """
import json, sys
import quanthost
listed = {b.name: (b.distribution, b.problem) for b in quanthost.installed()}
print(json.dumps({"listed": listed["tiny"], "lazy": not {"torch", "quanthost_tiny"} & set(sys.modules)}))
"""
SCRIPT = """
import json
import quanthost
import torch
torch.manual_seed(0)
from torch import nn
model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh()).eval()
batches = [torch.randn(4, 16) for _ in range(3)]
captured = quanthost.capture(model, (batches[0],))
calibrated = quanthost.calibrate(quanthost.prepare(captured, "tiny"), batches)
converted = quanthost.convert(calibrated)
program = quanthost.lower(converted)
made, wanted = program.run(batches[0]), converted.module(batches[0])
print(json.dumps({
    "decisions": [(d.operator, d.verdict.value, d.row, d.delegated, d.reason) for d in program.decisions],
    "difference": float((made - wanted).abs().max()),
    "error": float((made - model(batches[0])).abs().max()),
    "plugins": [(p.name, p.distribution, p.version) for p in program.record.plugins],
}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process that has the plugin installed says of it."""
    return ask(install([TINY], tmp_path_factory.mktemp("tiny")), SCRIPT, anew=LISTING)


def test_it_is_small() -> None:
    """Project file, manifest and module together have 45 lines at most, empty ones not counted."""
    files = (TINY / "pyproject.toml", *(TINY / "src" / "quanthost_tiny").glob("*.[pt][yo]*"))
    lines = [line for file in files for line in file.read_text().splitlines() if line]

    assert {file.name for file in files} == {"pyproject.toml", "quanthost.toml", "__init__.py"}
    assert len(lines) <= 45


def test_it_is_listed_without_being_imported(said: Any) -> None:
    """Listing reads its manifest; neither its module nor torch is imported."""
    assert said["listed"] == ["quanthost-tiny", None]
    assert said["lazy"]


def test_each_node_has_its_decision(said: Any) -> None:
    """Both layers are quantized by their rows, and what the table does not have says so."""
    rows = [(operator, verdict, row) for operator, verdict, row, _, _ in said["decisions"]]

    assert rows == [
        ("aten.linear.default", "quantized", "linear_relu"),
        ("aten.relu.default", "quantized", "linear_relu"),
        ("aten.linear.default", "quantized", "linear"),
        ("aten.tanh.default", "float", None),
    ]
    assert not any(delegated for _, _, _, delegated, _ in said["decisions"])
    assert said["decisions"][-1][4] == "tiny has no int8 kernel for tanh"


def test_the_program_runs_as_its_quantized_form(said: Any) -> None:
    """The runtime gives what eager torch gives (1e-6, for tanh), which is not the float model's result."""
    assert said["difference"] <= 1e-6
    assert 1e-4 < said["error"] < 0.1


def test_the_program_names_its_plugin(said: Any) -> None:
    """The record beside a program says which distribution made it."""
    assert said["plugins"] == [["tiny", "quanthost-tiny", "0.1.0"]]
