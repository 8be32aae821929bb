"""Constants are read where they are, and copied into the program once."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
from executorch.exir._serialize._cord import Cord, FileBackedData
from flow_nets import BACKEND, rand, seeded
from torch import fx, nn

import quanthost
from quanthost.toolchain.fast import constants
from quanthost.toolchain.fast.constants import join_parts


class Wide(nn.Module):
    """Layers of both kinds, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.twice = nn.Linear(8, 8)
        seeded(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.twice(torch.relu(self.twice(self.conv(x).mean((2, 3)))))
        return y


X = rand(1, 4, 6, 6)


def places(module: fx.GraphModule) -> set[int]:
    """Where the float tensors lie that a graph reads."""
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    return {t.data_ptr() for name, t in held.items() if name in read and t.dtype == torch.float32}


@pytest.mark.parametrize("recipe", ["fp32", "int8_static", "int8_dynamic", "int8_weight_only"])
def test_each_stage_reads_the_weights_of_the_model(recipe: str) -> None:
    """Up to those that become integers; and none of them is changed by any stage."""
    model = Wide().eval()
    mine = {parameter.data_ptr(): parameter.detach().clone() for parameter in model.parameters()}
    weights = {model.conv.weight.data_ptr(), model.twice.weight.data_ptr()}
    captured = quanthost.capture(model, X)
    assert {tensor.data_ptr() for tensor in captured.exported.state_dict.values()} == set(mine)
    prepared = quanthost.prepare(captured, BACKEND, recipe)
    calibrated = quanthost.calibrate(prepared, [X] if recipe == "int8_static" else None)
    for module in (prepared.module, calibrated.module):
        assert weights <= places(module)
    converted = quanthost.convert(calibrated)
    if recipe == "fp32":
        assert weights <= places(converted.module)
    else:
        assert model.twice.weight.data_ptr() not in places(converted.module)
    quanthost.lower(converted)
    for parameter in model.parameters():
        assert torch.equal(parameter, mine[parameter.data_ptr()])


def test_a_delegate_reads_the_weights_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its graph is its own, which it may change; ExecuTorch's own way gives it copies."""
    seen: list[set[int]] = []
    preprocess = XnnpackBackend.preprocess

    def watched(program: Any, specs: Any) -> Any:
        seen.append({tensor.data_ptr() for tensor in program.state_dict.values()})
        return preprocess(program, specs)

    monkeypatch.setattr(XnnpackBackend, "preprocess", staticmethod(watched))
    model = Wide().eval()
    mine = {model.conv.weight.data_ptr(), model.twice.weight.data_ptr()}
    converted = quanthost.convert(quanthost.prepare(quanthost.capture(model, X), BACKEND, "fp32"))
    quick = quanthost.lower(converted)
    assert set.union(*seen) >= mine
    seen.clear()
    upstream = quanthost.lower(converted, toolchain="upstream")
    assert not set.union(*seen) & mine
    assert torch.equal(quick.run(X), upstream.run(X))


@pytest.mark.parametrize("large", [0, 1 << 30], ids=["large", "small"])
def test_a_program_is_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    """In order, of memory or of files, empty or the same one twice."""
    monkeypatch.setattr(constants, "_LARGE", large)
    file = tmp_path / "part"
    file.write_bytes(b"from a file")
    twice = b"twice" * 3
    parts = Cord(b"head")
    for part in (twice, b"", FileBackedData(str(file)), twice, Cord(b"tail")):
        parts.append(part)
    wanted = bytes(parts)
    assert join_parts(parts) == wanted == b"head" + twice + b"from a file" + twice + b"tail"


def test_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are an empty program."""
    monkeypatch.setattr(constants, "_LARGE", 0)
    assert join_parts(Cord()) == b""


def test_parts_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was copied isn't held while the next one is."""
    monkeypatch.setattr(constants, "_LARGE", 0)

    class Part(FileBackedData):
        """Says which parts are left when it is written."""

        def __init__(self) -> None:
            self._size = 1

        def write_to_file(self, outfile: Any) -> None:
            gc.collect()
            outfile.write(str(sum(part() is not None for part in alive)).encode())

    parts, alive = Cord(), list[Any]()
    for _ in range(4):
        parts.append(part := Part())
        alive.append(weakref.ref(part))
    del part
    assert join_parts(parts) == b"4321"
