"""Provenance: operator, module and the user's line of each call node."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quanthost.graph import provenance
from quanthost.graph.provenance import Location, NodeInfo, innermost, node_infos, source_line

HERE = __file__


def scaled(x: torch.Tensor) -> torch.Tensor:
    return x * 3  # the line of mul


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        return scaled(torch.relu(self.linear(x)))  # the line of all three


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(3, 3))])

    def forward(self, x: Any) -> Any:
        x = self.block(self.block(x))
        return self.layers[0](x).sum() + 1


def infos(model: nn.Module, *args: Any, strict: bool = False) -> tuple[NodeInfo, ...]:
    with torch.no_grad():
        return node_infos(torch.export.export(model, args, strict=strict).graph)


def text_at(source: str | None) -> str:
    assert source is not None
    file, line = source.rsplit(":", 1)
    assert file == Path(HERE).name
    return linecache.getline(HERE, int(line)).strip()


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_operator_module_and_line_of_each_node(strict: bool) -> None:
    """A module used twice has its one path both times, whichever way the program was exported."""
    found = infos(Model(), torch.ones(2, 3), strict=strict)
    twice = [
        ("aten.linear.default", "block.linear", "torch.nn.modules.linear.Linear"),
        ("aten.relu.default", "block", f"{__name__}.Block"),
        ("aten.mul.Tensor", "block", f"{__name__}.Block"),
    ] * 2
    rest = [
        ("aten.linear.default", "layers.0.0", "torch.nn.modules.linear.Linear"),
        ("aten.sum.default", "", f"{__name__}.Model"),
        ("aten.add.Tensor", "", f"{__name__}.Model"),
    ]
    assert [(n.operator, n.module, n.module_type) for n in found] == twice + rest
    assert len({n.name for n in found}) == len(found)
    assert text_at(found[0].source) == text_at(found[1].source)
    assert text_at(found[1].source).endswith("# the line of all three")
    # tracing without strict records the frames of forward methods alone
    assert text_at(found[2].source).endswith("# the line of mul") is strict
    assert text_at(found[6].source) == "return self.layers[0](x).sum() + 1"


def test_a_model_made_of_torchs_own_modules_has_no_line_of_the_users() -> None:
    """The module's path still says where the node comes from."""
    (found,) = infos(nn.Sequential(nn.ReLU()), torch.ones(2))
    assert (found.module, found.source) == ("0", None)


def test_what_torch_inserts_by_itself_belongs_to_no_module() -> None:
    """The size of a dynamic dimension is read by a node that no line asked for."""

    class Size(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.shape[0]

    batch = torch.export.Dim("batch")
    program = torch.export.export(Size(), (torch.ones(4, 2),), dynamic_shapes=({0: batch},))
    (found,) = node_infos(program.graph)
    assert (found.operator, found.module, found.module_type, found.source) == (
        "aten.sym_size.int", None, None, None,
    )  # fmt: skip


def test_a_graph_without_records_still_lists_its_nodes() -> None:
    """Graphs made by hand have neither stack nor module."""
    graph = torch.fx.Graph()
    graph.output(graph.call_function(torch.ops.aten.relu.default, (graph.placeholder("x"),)))
    assert node_infos(graph) == (NodeInfo(name="relu_default", operator="aten.relu.default"),)


def test_source_line_has_file_line_function_and_text() -> None:
    """All four parts of the innermost line of the user."""
    program = torch.export.export(Block(), (torch.ones(2, 3),))
    relu = next(n for n in program.graph.nodes if n.name == "relu")
    line = source_line(relu)
    assert line is not None
    assert (line.file, line.function) == (HERE, "forward")
    assert line.text == "return scaled(torch.relu(self.linear(x)))  # the line of all three"
    assert line.described("Block") == f"{HERE}:{line.line}, in forward of Block: {line.text}"


SITE = Path(torch.__file__).parents[1]
STDLIB = sysconfig.get_path("stdlib")
FILES = {
    "a script": ("model.py", True),
    "an installed package": (str(SITE / "transformers" / "modeling.py"), True),
    "a package named like torch": (str(SITE / "torchcrepe" / "model.py"), True),
    "a notebook cell": ("<ipython-input-3-1c2d>", True),
    "torch": (torch.nn.functional.__file__, False),
    "torch, shortened": (os.path.join("torch", "fx", "passes", "runtime_assert.py"), False),
    "numpy": (str(SITE / "numpy" / "core" / "x.py"), False),
    "standard library": (os.path.join(STDLIB, "copy.py"), False),
    "generated code": ("<eval_with_key>.7", False),
    "quanthost": (provenance.__file__, False),
}


@pytest.mark.parametrize(("file", "expected"), FILES.values(), ids=FILES.keys())
def test_whose_code_a_file_is(file: str, expected: bool) -> None:
    """Installed models are code that a user can look at; torch and the standard library are not."""
    assert Location(file=file, line=1, function="f").is_users is expected


PORTABLE = {
    "a package on the path": ("/home/me/site-packages/zoo/nets/x.py", "zoo/nets/x.py"),
    "the deepest entry": ("/home/me/work/src/net.py", "net.py"),
    "below the working directory": ("/home/me/work/models/net.py", "models/net.py"),
    "a relative path": ("models/net.py", "models/net.py"),
    "a relative path that leads out": ("../secret/net.py", "net.py"),
    "no entry": ("/home/other/net.py", "net.py"),
    "a name that begins like an entry": ("/home/me/working/net.py", "net.py"),
    "a notebook cell": ("<ipython-input-3-1c2d>", "<ipython-input-3-1c2d>"),
}


@pytest.mark.parametrize(("file", "expected"), PORTABLE.values(), ids=PORTABLE.keys())
def test_kept_lines_do_not_tell_where_the_machine_keeps_its_files(
    file: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines that trace one model keep the same lines."""
    monkeypatch.setattr(sys, "path", ["", "/", "/home/me/site-packages", "/home/me/work/src"])
    monkeypatch.setattr(os, "getcwd", lambda: "/home/me/work")
    assert Location(file=file, line=12, function="forward").portable == f"{expected}:12"


def test_innermost_is_the_last_line_of_the_users() -> None:
    """Frames of torch below it, and the user's above it, do not count."""
    lines = [
        Location(file="train.py", line=1, function="main"),
        Location(file="model.py", line=2, function="forward"),
        Location(file=torch.nn.functional.__file__, line=3, function="relu"),
    ]
    assert innermost(lines) is lines[1]
    assert innermost(lines[2:]) is None
