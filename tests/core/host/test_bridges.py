"""A backend in scripts that exist: as torchao quantizer, as partitioners, and as export recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from executorch.exir import to_edge_transform_and_lower
from executorch.exir.backend.partitioner import Partitioner
from executorch.exir.delegate import executorch_call_delegate
from executorch.export import ExportRecipe, export
from executorch.runtime import Runtime
from flow_nets import BACKEND, Net, images, sqnr
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import Quantizer

import quanthost
from quanthost.errors import RequestError, UnknownBackendError
from quanthost.graph.operators import operator_name
from quanthost.graph.rewrite import origin
from quanthost.host import bridges
from quanthost.values import Override, Verdict

IMAGES = images()
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::executorch.exir._warnings.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def executed(program: bytes, *inputs: torch.Tensor) -> torch.Tensor:
    """The first output of a program in ExecuTorch's own runtime API."""
    method = Runtime.get().load_program(program).load_method("forward")
    assert method is not None
    (output,) = method.execute(inputs)
    result: torch.Tensor = output.clone()
    return result


class Script:
    """What ExecuTorch's documentation shows, with the backend's quantizer and partitioners in it."""

    def __init__(self, recipe: str | None = None, overrides: Sequence[Override] = ()) -> None:
        quantizer = quanthost.as_quantizer(BACKEND, recipe, overrides)
        self.quantizer = quantizer
        exported = torch.export.export(Net(), (IMAGES[0],)).module()
        prepared = prepare_pt2e(exported, quantizer)
        for image in IMAGES:
            prepared(image)
        self.converted = convert_pt2e(prepared)
        edge = to_edge_transform_and_lower(
            torch.export.export(self.converted, (IMAGES[0],)),
            partitioner=quanthost.as_partitioners(BACKEND, recipe),
        )
        self.edge = edge.exported_program()
        self.program = bytes(edge.to_executorch().buffer)

    def delegated(self) -> list[list[str]]:
        """The operators of each delegated piece."""
        graph_module = self.edge.graph_module
        calls = [node for node in graph_module.graph.nodes if node.target is executorch_call_delegate]
        pieces = [getattr(graph_module, node.args[0].target).original_module for node in calls]
        return [[operator_name(n) for n in piece.graph.nodes if n.op == "call_function"] for piece in pieces]


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


def test_the_quantizer_is_torchao_s(script: Script) -> None:
    """And the partitioners are ExecuTorch's."""
    assert isinstance(script.quantizer, Quantizer)
    partitioners = quanthost.as_partitioners(BACKEND)
    assert len(partitioners) == 1
    assert isinstance(partitioners[0], Partitioner)


def test_the_script_s_program_runs(script: Script) -> None:
    """Near the model, and as its own quantized graph computes, within one step."""
    for image in IMAGES:
        got = executed(script.program, image)
        assert sqnr(Net()(image), got) > 25
        assert float((got - script.converted(image)).abs().max()) < 0.02


def test_the_script_delegates_what_quantize_delegates(script: Script) -> None:
    """The same operators in as many pieces, and the same verdicts."""
    whole = quanthost.quantize(Net(), IMAGES[0], BACKEND, calibration=IMAGES)
    pieces = script.delegated()
    assert [len(piece) for piece in pieces] == [piece.operators for piece in whole.record.pieces]
    assert sum("conv" in name for name in pieces[0]) == 1
    outside = [n for n in script.edge.graph.nodes if n.op == "call_function"]
    assert {str(node.target) for node in outside} <= {
        str(executorch_call_delegate),
        "<built-in function getitem>",
    }
    assert whole.record.outside == ()
    verdicts = {decision.node: (decision.verdict, decision.row) for decision in whole.decisions}
    told = {decision.node: (decision.verdict, decision.row) for decision in script.quantizer.decisions}
    # torchao folds batch norm before it shows the graph to a quantizer
    assert verdicts.pop("batch_norm") == (Verdict.FOLDED, None)
    assert told == verdicts


def test_nodes_of_the_script_know_where_they_come_from(script: Script) -> None:
    """Names of the exported graph survive conversion, in the user's own program too."""
    names = {origin(node) for node in script.converted.graph.nodes if node.op == "call_function"}
    assert {"conv2d", "relu", "mean", "linear"} <= names


def test_overrides_of_the_quantizer() -> None:
    """A rule keeps a layer in float, in the delegate all the same."""
    made = Script(overrides=[Override(module_name="head", keep_float=True)])
    decisions = {decision.node: decision for decision in made.quantizer.decisions}
    assert decisions["linear"].verdict is Verdict.FLOAT
    assert decisions["conv2d"].verdict is Verdict.QUANTIZED
    assert len(made.delegated()) == 1
    assert sqnr(Net()(IMAGES[1]), executed(made.program, IMAGES[1])) > 25


def test_another_recipe() -> None:
    """Ranges at run time need no image to be shown."""
    made = Script("int8_dynamic")
    assert sqnr(Net()(IMAGES[1]), executed(made.program, IMAGES[1])) > 25


@pytest.mark.parametrize("recipe", ["int8_static", "int8_dynamic", "int8_weight_only", "fp32"])
def test_export_recipe(recipe: str) -> None:
    """ExecuTorch's session takes the recipe from module to program."""
    made = quanthost.as_export_recipe(BACKEND, recipe)
    assert isinstance(made, ExportRecipe)
    assert made.name == f"quanthost_{BACKEND}_{recipe}"
    session = export(Net(), [(image,) for image in IMAGES], made)
    got = executed(session.get_pte_buffer(), IMAGES[1])
    assert sqnr(Net()(IMAGES[1]), got) > (100 if recipe == "fp32" else 25)


def test_float_recipe_quantizes_nothing() -> None:
    """The session has no quantization stage to run then."""
    assert quanthost.as_export_recipe(BACKEND, "fp32").quantization_recipe is None
    assert quanthost.as_export_recipe(BACKEND).quantization_recipe is not None


BRIDGES: dict[str, Any] = {
    "quantizer": quanthost.as_quantizer,
    "partitioners": quanthost.as_partitioners,
    "export recipe": quanthost.as_export_recipe,
}


@pytest.mark.parametrize("name", ["partitioners", "export recipe"])
def test_kernels_are_registered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script's ``to_executorch`` must find what the backend leaves to the runtime's kernels."""
    registered: list[str] = []
    monkeypatch.setattr(bridges, "register_kernels", registered.extend)
    BRIDGES[name](BACKEND, "int8_weight_only")
    assert registered == ["executorch.kernels.quantized"]


@pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES.keys())
def test_requests_are_checked(bridge: Any) -> None:
    """Each way in refuses what prepare refuses."""
    with pytest.raises(UnknownBackendError, match="xnnpack_lik'"):
        bridge("xnnpack_lik")
    with pytest.raises(RequestError, match="the recipe 'int7'"):
        bridge(BACKEND, "int7")
    with pytest.raises(RequestError, match="the option 'bits'"):
        bridge(BACKEND, options={"bits": 4})


def test_a_graph_with_writes_is_refused_by_name() -> None:
    """Where torchao would quantize a tensor that is changed afterwards, the quantizer says so."""

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            y[:, 0] = 0
            return torch.relu(y)

    exported = torch.export.export(Writes().eval(), (torch.ones(1, 4),)).module()
    with pytest.raises(RequestError, match="writes into a tensor that others read"):
        prepare_pt2e(exported, quanthost.as_quantizer(BACKEND))
