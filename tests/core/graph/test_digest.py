"""The digest of a captured model: what must change it, and what must not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quanthost.graph.digest import model_digest, stable_text
from quanthost.graph.signature import Signature


class Model(nn.Module):
    def __init__(self, slope: float = 0.1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3, dtype=dtype)
        self.slope = slope
        self.register_buffer("offset", torch.zeros(3, dtype=dtype), persistent=False)
        self.constant = torch.ones(3, dtype=dtype)

    def forward(self, x: Any) -> Any:
        x = nn.functional.leaky_relu(self.linear(x), self.slope) + self.offset
        return {"y": x * self.constant + torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)}


def digest(model: nn.Module, *args: Any, dynamic_shapes: Any = None) -> str:
    args = args or (torch.ones(2, 3, dtype=next(model.parameters()).dtype),)
    with torch.no_grad():
        program = torch.export.export(model, args, dynamic_shapes=dynamic_shapes)
    return model_digest(program, Signature.of(program))


def test_the_same_model_has_the_same_digest() -> None:
    """Made anew, traced anew, with other example values."""
    assert digest(Model()) == digest(Model(), torch.zeros(2, 3))
    assert digest(Model()).startswith("sha256:")


def nudged(name: str) -> Model:
    """The model with the last bit of one tensor changed."""
    model = Model()
    tensor = model.get_parameter(name) if "." in name else getattr(model, name)
    with torch.no_grad():
        tensor.view(-1)[0] = torch.nextafter(tensor.view(-1)[0], torch.tensor(9.0))
    return model


class Renamed(Model):
    """Another class with the same forward."""


class Listed(Model):
    def forward(self, x: Any) -> Any:
        return [super().forward(x)["y"]]


BATCH = torch.export.Dim("batch", min=2, max=8)
DIFFERENT = {
    "weight": lambda: digest(nudged("linear.weight")),
    "bias": lambda: digest(nudged("linear.bias")),
    "buffer": lambda: digest(nudged("offset")),
    "constant": lambda: digest(nudged("constant")),
    "argument of an operator": lambda: digest(Model(slope=0.2)),
    "dtype": lambda: digest(Model(dtype=torch.float64)),
    "shape": lambda: digest(Model(), torch.ones(4, 3)),
    "dynamic shape": lambda: digest(Model(), dynamic_shapes=({0: BATCH},)),
    "structure of the result": lambda: digest(Listed()),
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_every_difference_changes_the_digest(other: Any) -> None:
    """Graph, weights and signature are all part of it."""
    assert other() != digest(Model())


def test_the_range_of_a_dynamic_dimension_is_part_of_it() -> None:
    """Two ranges are two signatures."""
    wide = torch.export.Dim("batch", min=2, max=9)
    assert digest(Model(), dynamic_shapes=({0: wide},)) != digest(Model(), dynamic_shapes=({0: BATCH},))


def test_names_of_classes_and_dimensions_are_not_part_of_it() -> None:
    """They say nothing about what is computed."""
    other = torch.export.Dim("rows", min=2, max=8)
    assert digest(Renamed()) == digest(Model())
    assert digest(Model(), dynamic_shapes=({0: other},)) == digest(Model(), dynamic_shapes=({0: BATCH},))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_every_dtype_are_read(dtype: torch.dtype) -> None:
    """One weight that changes is seen in each format."""
    model = Model(dtype=dtype)
    before = digest(model)
    with torch.no_grad():
        model.linear.weight[0, 0] *= 2
    assert digest(model) != before


def test_empty_and_scalar_constants_are_read() -> None:
    """Neither has a last dimension that could be looked at as bytes without care."""

    class Odd(Model):
        def __init__(self) -> None:
            super().__init__()
            self.empty = torch.zeros(0, 3)
            self.scale = torch.tensor(2.0)

        def forward(self, x: Any) -> Any:
            return torch.cat([x * self.scale, self.empty])

    assert digest(Odd()) == digest(Odd())


class Autocast(nn.Module):
    """A model with a graph inside of its graph."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.factor = factor

    def forward(self, x: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return x @ x.T * self.factor + self.weight[0]


def test_nested_graphs_are_part_of_it() -> None:
    """A difference inside of a nested graph is a difference."""
    assert digest(Autocast(2)) == digest(Autocast(2))
    assert digest(Autocast(2)) != digest(Autocast(3))


def test_the_text_holds_no_address_and_no_path() -> None:
    """Whatever Python prints of an object without a form of its own would change from run to run."""
    with torch.no_grad():
        text = stable_text(torch.export.export(Autocast(2), (torch.ones(2, 3),)))
    assert " at 0x" not in text
    assert Path(__file__).name not in text
    assert "mul = aten.mul.Tensor(%mm, 2)" in text.replace("matmul", "mm")


SOURCE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = torch.nn.functional.linear(x, self.weight)
        return {"y": x[:, :1], "n": x.shape[0]}
def make():
    from quanthost.graph.digest import model_digest
    from quanthost.graph.signature import Signature
    rows = torch.export.Dim("rows", max=9)
    program = torch.export.export(Net(), (torch.ones(4, 3),), dynamic_shapes=({0: rows},))
    return model_digest(program, Signature.of(program))
"""


def test_another_process_and_place_give_the_same_digest(tmp_path: Path) -> None:
    """The model's file lies elsewhere, runs as a script, and after other programs were traced."""
    here, there = tmp_path / "here" / "net.py", tmp_path / "there" / "other_name.py"
    for file in (here, there):
        file.parent.mkdir()
        file.write_text(SOURCE + "\nif __name__ == '__main__':\n    make()\n    print(make())\n")
    spec = importlib.util.spec_from_file_location("net", here)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ran = subprocess.run([sys.executable, str(there)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [module.make()]
