"""Lowering with ExecuTorch's own functions, and the survey of what lies inside of delegates."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig
from executorch.exir.pass_base import ExportPass
from flow_nets import BACKEND, rand, seeded, sqnr
from torch import nn
from torch.export import ExportedProgram
from torch.fx.passes.infra.pass_base import PassResult

import quanthost
from quanthost.graph.rewrite import tag_origins
from quanthost.toolchain.edge import to_program
from quanthost.toolchain.runtime import Executor

X = rand(2, 4)


class Mixed(nn.Module):
    """Two layers, between which stands what the delegate has no kernel for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        seeded(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(torch.cumsum(torch.relu(self.first(x)), 1))
        return y


def exported() -> ExportedProgram:
    made = torch.export.export(Mixed(), (X,))
    tag_origins(made.graph_module)
    return made


def test_without_a_partitioner_all_is_outside() -> None:
    """Each operator with the captured node that it comes from; the program runs."""
    made = to_program(exported(), partitioners=[])
    assert made.pieces == ()
    assert ("cumsum", "aten.cumsum.default") in made.outside
    assert {origin for origin, _ in made.outside} == {"linear", "relu", "cumsum", "linear_1"}
    assert sqnr(Mixed()(X), Executor(made.buffer)([X])[0]) > 100


@pytest.fixture(scope="module")
def delegated() -> Any:
    return to_program(exported(), partitioners=quanthost.as_partitioners(BACKEND))


def test_what_lies_in_a_delegate(delegated: Any) -> None:
    """Pieces in order, with the delegate's name, the captured nodes and the number of operators."""
    assert [piece.delegate for piece in delegated.pieces] == ["XnnpackBackend"] * 2
    assert [set(piece.origins) for piece in delegated.pieces] == [{"linear", "relu"}, {"linear_1"}]
    assert [piece.operators for piece in delegated.pieces] == [2, 1]
    assert delegated.outside == (("cumsum", "aten.cumsum.default"),)
    assert sqnr(Mixed()(X), Executor(delegated.buffer)([X])[0]) > 100


def test_the_exported_program_is_left_alone() -> None:
    """Lowering works on a program of its own."""
    program = exported()
    before = str(program.graph)
    to_program(program, partitioners=quanthost.as_partitioners(BACKEND))
    assert str(program.graph) == before


def test_passes_run_before_partitioning() -> None:
    """A backend's edge pass sees the graph that its partitioner will."""
    seen: list[list[str]] = []

    class Looks(ExportPass):  # type: ignore[misc]  # executorch is untyped
        def call(self, graph_module: torch.fx.GraphModule) -> PassResult:
            seen.append([node.name for node in graph_module.graph.nodes])
            return PassResult(graph_module, False)

    to_program(exported(), partitioners=quanthost.as_partitioners(BACKEND), passes=[Looks()])
    assert any("cumsum" in name for name in seen[0])
    assert not any("delegate" in name for name in seen[0])


def test_configurations_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both as they were given, defaults where they were not."""
    given: dict[str, Any] = {}

    class Stops(Exception):
        pass

    def keep(program: ExportedProgram, **options: Any) -> None:
        given.update(options)
        raise Stops

    monkeypatch.setattr("quanthost.toolchain.edge.to_edge_transform_and_lower", keep)
    config = EdgeCompileConfig(_skip_dim_order=True)
    with pytest.raises(Stops):
        to_program(exported(), partitioners=[], edge_config=config)
    assert given["compile_config"] is config
    with pytest.raises(Stops):
        to_program(exported(), partitioners=[])
    assert given["compile_config"]._check_ir_validity is False
    assert given["transform_passes"] is None


def test_segments_of_a_backend_s_configuration() -> None:
    """Delegates' data lies in segments of its own where the backend asks for it."""
    partitioners = quanthost.as_partitioners(BACKEND)
    inside, apart = (
        to_program(
            exported(), partitioners=partitioners,
            backend_config=ExecutorchBackendConfig(extract_delegate_segments=segments),
        ).buffer
        for segments in (False, True)
    )  # fmt: skip
    assert inside != apart
    assert torch.equal(Executor(inside)([X])[0], Executor(apart)([X])[0])


def test_lowering_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither printed lines nor warnings of the toolchain about itself."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        to_program(exported(), partitioners=quanthost.as_partitioners(BACKEND))
    assert [str(each.message) for each in heard] == []
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
