"""``quanthost run``: inputs from files or at random, outputs as numbers and files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cli_kit import Cli

import quanthost
from quanthost.cli.program_tensors import summarize
from quanthost.debugging.tensor_files import read_tensors
from quanthost.graph.signature import Signature

_NAMES = ["output['scores']", "output['order']"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """One input of the network in a file."""
    generator = torch.Generator().manual_seed(5)
    np.savez(tmp_path / "in.npz", image=torch.randn(1, 3, 8, 8, generator=generator).numpy())
    return tmp_path / "in.npz"


def test_outputs_are_those_of_the_program(cli: Cli, program: Path, image: Path, tmp_path: Path) -> None:
    """Stored bit for bit, and summarised in the document."""
    stored = tmp_path / "out.npz"
    ended = cli("run", str(program), "--inputs", str(image), "--json", "--repeat", "2", "-o", str(stored))
    assert ended.code == 0
    expected = quanthost.load(program).run(read_tensors(image)["image"])
    found = read_tensors(stored)
    assert list(found) == _NAMES
    assert torch.equal(found[_NAMES[0]], expected["scores"])
    document = json.loads(ended.out)
    assert [output["name"] for output in document["outputs"]] == _NAMES
    assert document["outputs"][0]["shape"] == [1, 4]
    assert document["outputs"][0]["mean"] == pytest.approx(expected["scores"].double().mean().item())
    assert document["runs"] == 2
    assert document["latency_ms"] > 0


def test_the_table_has_shape_range_and_latency(cli: Cli, program: Path, image: Path) -> None:
    """A row an output, in 80 columns."""
    ended = cli("run", str(program), "-i", str(image), "--repeat", "3")
    lines = ended.out.splitlines()
    assert lines[0].split() == ["output", "tensor", "min", "max", "mean"]
    assert [line.split()[0] for line in lines[1:3]] == _NAMES
    assert "float32 [1, 4]" in lines[1]
    assert lines[-1].startswith("latency ")
    assert lines[-1].endswith(" ms, median of 3")


def test_random_inputs_are_the_same_every_time(cli: Cli, program: Path) -> None:
    """So that two machines can be compared; no calls are timed where none are wanted."""
    first, second = (cli("run", str(program), "-i", "random", "--repeat", "0", "--json") for _ in range(2))
    assert first.out == second.out
    assert json.loads(first.out)["latency_ms"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-i", "nix.npz"), 1, "no file nix.npz"),
        (("-i", "{wrong}"), 1, "tensors named a, b\n  needed: one for each input: image"),
        (("-i", "random", "-o", "{wrong}"), 2, "which exists"),
        (("-i", "random", "--repeat", "-1"), 2, "--repeat"),
    ],
)
def test_mistakes(
    cli: Cli, program: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Nothing is written to stdout."""
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, a=np.zeros(1), b=np.zeros(1))
    ended = cli("run", str(program), *(argument.format(wrong=wrong) for argument in arguments))
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err


def test_a_wrong_shape_is_refused(cli: Cli, program: Path, tmp_path: Path) -> None:
    """In the words of the captured signature."""
    np.savez(tmp_path / "in.npz", image=np.zeros((1, 3, 9, 8), dtype=np.float32))
    ended = cli("run", str(program), "-i", str(tmp_path / "in.npz"))
    assert ended.code == 1
    assert "float32[1, 3, 9, 8]" in ended.err


def test_all_kinds_of_arguments_are_made_up(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dynamic size at its least, integers and truth values of 0 and 1, constants as captured."""

    class Net(torch.nn.Module):
        def forward(self, x: Any, ids: Any, *, flag: bool, mask: Any) -> Any:
            return x.sum() + ids.sum() + mask.sum() if flag else x

    exported = torch.export.export(
        Net(), (torch.randn(4, 2), torch.arange(3)), {"flag": True, "mask": torch.ones(2, dtype=torch.bool)},
        dynamic_shapes={
            "x": {0: torch.export.Dim("n", min=3, max=9)}, **dict.fromkeys(("ids", "flag", "mask")),
        },
    )  # fmt: skip
    calls: list[tuple[Any, Any]] = []
    fake = SimpleNamespace(
        record=SimpleNamespace(signature=Signature.of(exported).to_json()),
        run=lambda *args, **kwargs: calls.append((args, kwargs)) or torch.zeros(1),
    )
    monkeypatch.setattr(quanthost, "load", lambda _: fake)
    assert cli("run", "net.pte", "-i", "random", "--repeat", "0").code == 0
    (((x, ids), kwargs),) = calls
    assert (x.shape, x.dtype) == ((3, 2), torch.float32)
    assert ids.dtype == torch.int64
    assert set(ids.tolist()) <= {0, 1}
    assert kwargs["flag"] is True
    assert kwargs["mask"].dtype == torch.bool


def test_summary_by_hand() -> None:
    """Statistics are over finite elements, and the others are counted."""
    found = summarize("y", torch.tensor([1.0, 4.0, math.nan, math.inf]))
    assert (found.minimum, found.maximum, found.mean, found.not_finite) == (1.0, 4.0, 2.5, 2)
    assert (found.kind, found.shape) == ("float32", (4,))


@pytest.mark.parametrize("tensor", [torch.zeros(0), torch.tensor([math.nan])], ids=["empty", "all NaN"])
def test_summary_without_a_finite_element(tensor: torch.Tensor) -> None:
    """No statistics rather than NaN, which JSON does not have."""
    found = summarize("y", tensor)
    assert (found.minimum, found.maximum, found.mean) == (None, None, None)
    assert found.not_finite == tensor.numel()


def test_summary_of_other_values() -> None:
    """Integers and truth values have statistics too; what is no tensor is shown as it is."""
    assert summarize("y", torch.tensor([True, False])).mean == 0.5
    assert summarize("y", torch.tensor([1, 4])).maximum == 4.0
    assert summarize("y", None).kind == "None"
