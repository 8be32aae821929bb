"""What is remembered while a delegate prepares its program, and what is looked up again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from executorch.exir.backend.backend_details import BackendDetails
from torch import fx, nn
from torch._export import utils as export_utils
from torch.export import ExportedProgram, ExportGraphSignature
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from quanthost.toolchain.fast import lookups
from quanthost.toolchain.fast.lookups import cached_lookups

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("shift", torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x) + self.shift
        return y


class Drops(PassBase):
    """Takes a parameter out of the signature, between two looks."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.program, self.seen = program, []

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        signature = self.program.graph_signature
        self.seen.append(len(signature.inputs_to_parameters))
        del signature.input_specs[0]
        self.seen.append(len(signature.inputs_to_parameters))
        return PassResult(graph_module, True)


@pytest.fixture
def program() -> ExportedProgram:
    return torch.export.export(Net().eval(), (torch.ones(1, 2),))


def prepared_by(work: Any, program: ExportedProgram) -> Any:
    """What ``work`` returns, done by a delegate that prepares its program."""

    class Delegate(BackendDetails):
        @staticmethod
        def preprocess(edge_program: ExportedProgram, compile_specs: Any) -> Any:
            return work(edge_program)

    return Delegate.preprocess_multimethod({"forward": [program]}, {"forward": [[]]})["forward"][0]


def test_a_signature_is_read_once(program: ExportedProgram) -> None:
    """The same answers, out of one dictionary; only for a delegate, and only inside."""

    def look(edge: ExportedProgram) -> tuple[Any, Any]:
        return edge.graph_signature.inputs_to_buffers, edge.graph_signature.inputs_to_buffers

    signature = program.graph_signature
    with cached_lookups():
        first, second = prepared_by(look, program)
        assert signature.inputs_to_parameters is not signature.inputs_to_parameters
    assert first is second
    assert dict(first) == dict(signature.inputs_to_buffers) == {"b_shift": "shift"}
    outside = prepared_by(look, program)
    assert outside[0] is not outside[1]


def test_a_pass_that_changes_the_signature_sees_it(program: ExportedProgram) -> None:
    """Also what comes behind the pass."""
    drops = Drops(program)

    def work(edge: ExportedProgram) -> int:
        assert len(edge.graph_signature.inputs_to_parameters) == 2
        drops(edge.graph_module)
        return len(edge.graph_signature.inputs_to_parameters)

    with cached_lookups():
        assert prepared_by(work, program) == 1
    assert drops.seen == [2, 1]


def test_everything_is_put_back(program: ExportedProgram) -> None:
    """Properties, class methods and functions are the toolchain's own again, and nothing is held."""
    before = [vars(ExportGraphSignature)["user_inputs"], vars(BackendDetails)["preprocess_multimethod"]]
    with cached_lookups():
        prepared_by(lambda edge: edge.graph_signature.user_inputs, program)
        assert vars(ExportGraphSignature)["user_inputs"] is not before[0]
    after = [vars(ExportGraphSignature)["user_inputs"], vars(BackendDetails)["preprocess_multimethod"]]
    assert all(one is other for one, other in zip(before, after))
    assert lookups._STATE.cache == {}


def test_composite_operators_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all namespaces together; again where a namespace came, and in the next lowering."""
    asked: list[str] = []
    ask = torch._C._dispatch_get_registrations_for_dispatch_key
    monkeypatch.setattr(
        torch._C, "_dispatch_get_registrations_for_dispatch_key", lambda key: asked.append(key) or ask(key)
    )
    plain = export_utils._collect_all_valid_cia_ops()
    without = len(asked)
    asked.clear()
    with cached_lookups():
        assert export_utils._collect_all_valid_cia_ops() == plain
        assert export_utils._collect_all_valid_cia_ops() == plain
        assert len(asked) == 1 < without
        monkeypatch.setattr(torch.ops, "_dir", [*torch.ops._dir, "quanthost_nothing"])
        export_utils._collect_all_valid_cia_ops()
        assert len(asked) > 1
        asked.clear()
    with cached_lookups():
        export_utils._collect_all_valid_cia_ops()
        assert len(asked) == 1
