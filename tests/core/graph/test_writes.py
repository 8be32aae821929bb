"""Writes: what a program changes that outlives the call, directly, through views, or as statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from quanthost.graph.writes import find_writes


class Writer(nn.Module):
    """A model whose forward is a function of itself and one input."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("state", torch.zeros(4))
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Any) -> Any:
        return self.run(self, x)


def exported(run: Any, x: torch.Tensor, train: bool = False) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(Writer(run).train(train), (x,))


def found(run: Any, x: torch.Tensor | None = None, train: bool = False) -> list[tuple[str, str, bool]]:
    program = exported(run, torch.ones(2, 4) if x is None else x, train)
    return [(w.kind.name, w.name, w.statistics) for w in find_writes(program)]


def assigned(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.state = m.state + 1
    return x + m.state


def indexed(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.state[1:][0] = 2
    return x + m.state


def under_autocast(m: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        m.state.add_(1)
        return x @ x.T


WRITES = {
    "input": (lambda m, x: x.add_(1), [("USER_INPUT", "x")]),
    "view of an input": (lambda m, x: x.view(-1)[:2].mul_(2), [("USER_INPUT", "x")]),
    "part of an input": (lambda m, x: x.chunk(2, 1)[1].zero_(), [("USER_INPUT", "x")]),
    "conversion that converts nothing": (lambda m, x: x.float().div_(255), [("USER_INPUT", "x")]),
    "input given as out=": (lambda m, x: torch.add(m.weight, 1, out=x[0]), [("USER_INPUT", "x")]),
    "buffer": (lambda m, x: x + m.state.add_(1), [("BUFFER", "state")]),
    "buffer by assignment": (assigned, [("BUFFER", "state")]),
    "buffer by index": (indexed, [("BUFFER", "state")]),
    "buffer in a nested graph": (under_autocast, [("BUFFER", "state")]),
    "parameter": (lambda m, x: x + m.weight.mul_(2), [("PARAMETER", "weight")]),
    "two": (lambda m, x: x.add_(m.state.add_(1)), [("BUFFER", "state"), ("USER_INPUT", "x")]),
}


@pytest.mark.parametrize(("run", "expected"), WRITES.values(), ids=WRITES.keys())
def test_writes_are_found(run: Any, expected: list[tuple[str, str]]) -> None:
    """Each tensor once, by the name that its owner gave it."""
    assert found(run) == [(kind, name, False) for kind, name in expected]


READS = {
    "new tensor": lambda m, x: x.clone().add_(1),
    "conversion that converts": lambda m, x: x.double().div_(255),
    "copy made by reshape": lambda m, x: x.T.reshape(-1).mul_(2),
    "activation": lambda m, x: torch.relu_(x + m.state),
    "literal": lambda m, x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]).mul_(2),
    "change of shape alone": lambda m, x: x + m.state[:].unsqueeze_(0),
    "only reads": lambda m, x: x * m.weight + m.state,
}


@pytest.mark.parametrize("run", READS.values(), ids=READS.keys())
def test_changing_what_the_model_made_itself_is_no_write(run: Any) -> None:
    """In-place operators on intermediate results concern nobody."""
    assert found(run) == []


def test_batch_norm_in_training_writes_statistics() -> None:
    """Mean, variance and the counter, marked as statistics."""
    writes = found(lambda m, x: m.norm(x), torch.ones(2, 3), train=True)
    names = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert {(kind, name) for kind, name, _ in writes} == {("BUFFER", name) for name in names}
    assert all(statistics for _, _, statistics in writes)


def test_batch_norm_in_evaluation_writes_nothing() -> None:
    """The same operator, with its switch off."""
    assert found(lambda m, x: m.norm(x), torch.ones(2, 3)) == []


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_a_decomposed_program_says_the_same() -> None:
    """There the graph is functional, and its results are copied back afterwards."""
    program = exported(lambda m, x: x.add_(m.state.add_(1)), torch.ones(2, 4)).run_decompositions()
    assert not any(node.target is torch.ops.aten.add_.Tensor for node in program.graph.nodes)
    writes = {(w.kind, w.name) for w in find_writes(program)}
    assert writes == {(InputKind.BUFFER, "state"), (InputKind.USER_INPUT, "x")}


def test_a_write_names_its_node() -> None:
    """The node is the one that changes the tensor."""
    (write,) = find_writes(exported(WRITES["part of an input"][0], torch.ones(2, 4)))
    assert write.node.target is torch.ops.aten.zero_.default
