"""``lower``: the record of a program, what a backend's options do, and what is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import attrs
import pytest
import torch
from flow_nets import BACKEND, Net, converted, images, prepared, rand, seeded, sqnr, untouched
from torch import nn

import quanthost
from quanthost.api import TableBackend
from quanthost.errors import HookError, LoweringError
from quanthost.graph.operators import argument
from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.hooks.manager import Plugins
from quanthost.stages.lowering import attempts
from quanthost.stages.lowering import lower as stage
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.records import ConvertedModel
from quanthost.values import PluginRecord

IMAGE = images(1)[0]


@pytest.fixture(scope="module")
def net() -> ConvertedModel:
    return converted()


@pytest.fixture(scope="module")
def program(net: ConvertedModel) -> LoweredProgram:
    plugin = PluginRecord(name=BACKEND, distribution="dist", version="1")
    return stage.lower(net, [plugin])


def with_options(net: ConvertedModel, **changes: Any) -> ConvertedModel:
    """The same model with a backend that lowers with other options."""
    prepared_model = net.calibrated.prepared
    backend = prepared_model.plugins.plugin(BACKEND)
    assert isinstance(backend, TableBackend)
    options = attrs.evolve(backend.quanthost_lowering_options(), **changes)
    other = TableBackend(
        info=backend.info, table=backend.table, delegate=backend.delegate, mark=backend.mark, lowering=options
    )
    replaced = attrs.evolve(prepared_model, plugins=Plugins([(BACKEND, other)]))
    return attrs.evolve(net, calibrated=attrs.evolve(net.calibrated, prepared=replaced))


def test_the_program_runs(program: LoweredProgram, net: ConvertedModel) -> None:
    """Its outputs are those of the quantized graph, within one step of the output's scale."""
    (output,) = program.record.quantized_outputs
    for image in images():
        difference = (program.run(image) - net.module(image)).abs().max()
        assert float(difference) <= output.scale * 1.001
        assert sqnr(Net()(image), program.run(image)) > 25


def test_the_converted_model_is_left_alone(net: ConvertedModel, program: LoweredProgram) -> None:
    """Lowering works on a copy, and gives the same bytes each time."""
    with untouched(net.module, net.calibrated.module):
        again = quanthost.lower(net)
    assert again.buffer == program.buffer


def test_what_was_asked_and_taken(program: LoweredProgram, net: ConvertedModel) -> None:
    """The record repeats the request, the plugins, versions and digests."""
    record, captured = program.record, net.calibrated.prepared.captured
    assert (record.backends, record.recipe, record.representation) == ((BACKEND,), "int8_static", "qdq")
    assert record.plugins == (PluginRecord(name=BACKEND, distribution="dist", version="1"),)
    assert dict(record.versions)["torch"] == metadata.version("torch")
    assert dict(record.versions).keys() == {"quanthost", "torch", "torchao", "executorch"}
    assert (record.overrides, record.options, record.qat) == ((), (), False)
    assert record.model == "flow_nets.Net"
    assert record.model_digest == captured.digest
    assert record.data_digest == net.calibrated.data_digest
    assert record.refinement == net.refinement


def test_what_became_of_it(program: LoweredProgram, net: ConvertedModel) -> None:
    """One delegated piece, nothing outside, a placement on each decision."""
    record = program.record
    assert [piece.delegate for piece in record.pieces] == ["XnnpackBackend"]
    assert record.outside == ()
    assert record.delegated_share == 1.0
    assert record.runtime_modules == ("executorch.kernels.quantized",)
    assert [d.node for d in program.decisions] == [d.node for d in net.decisions]
    assert {d.delegated for d in program.decisions} <= {True, False}
    assert all(d.placement for d in program.decisions)


def test_parameters_at_the_edge(program: LoweredProgram, net: ConvertedModel) -> None:
    """Scale and zero point next to input and output are those of the quantized graph."""
    nodes = list(net.module.graph.nodes)
    quantize, dequantize = next(filter(is_quantize, nodes)), list(filter(is_dequantize, nodes))[-1]
    (first,), (last,) = program.record.quantized_inputs, program.record.quantized_outputs
    for told, node in ((first, quantize), (last, dequantize)):
        assert (told.scale, told.zero_point) == (argument(node, "scale"), argument(node, "zero_point"))
        assert (told.quant_min, told.quant_max) == (-128, 127)
    assert first.name == "image"


def test_a_program_that_computes_nothing_is_refused() -> None:
    """Constants are put in their places by the host; nothing is left to lower."""

    class Passes(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[int, None, int]:
            del x
            return 2, None, 1

    made = quanthost.convert(prepared(Passes(), IMAGE, recipe="fp32"))
    with untouched(made.module), pytest.raises(LoweringError) as caught:
        quanthost.lower(made)
    assert (
        str(caught.value)
        == """\
a model whose 3 outputs are inputs or constants
  needed: at least one output that is computed
  where:  stage lower
  to do:  lower the part of the model that computes"""
    )


def test_an_input_that_is_passed_through_is_copied() -> None:
    """As the documented script does it; with something to compute it stays outside of the program."""

    class Passes(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor]:
            return x, None, x

    for recipe in ("fp32", "int8_dynamic"):
        program = quanthost.lower(quanthost.convert(prepared(Passes(), IMAGE, recipe=recipe)))
        first, nothing, second = program.run(IMAGE)
        assert torch.equal(first, IMAGE)
        assert torch.equal(second, IMAGE)
        assert nothing is None


def test_what_the_toolchain_refuses(net: ConvertedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is told with the first one in the chain, which knows the operator."""

    def fails(*_: object, **__: object) -> None:
        try:
            raise AssertionError("conv wants NCHW")
        except AssertionError as error:
            raise RuntimeError("a pass failed") from error

    monkeypatch.setattr(attempts, "to_program", fails)
    with untouched(net.module), pytest.raises(LoweringError) as caught:
        quanthost.lower(net)
    assert (
        str(caught.value)
        == """\
the toolchain refused the graph: a pass failed; conv wants NCHW
  needed: a graph that torch.export and ExecuTorch accept
  where:  stage lower, backend xnnpack_like
  to do:  report the error"""
    )
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_errors_without_words_are_named(net: ConvertedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An assertion without text is at least called one."""

    def fails(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(attempts, "to_program", fails)
    with pytest.raises(LoweringError, match=r"^the toolchain refused the graph: AssertionError\n"):
        quanthost.lower(net)


def test_own_errors_pass(net: ConvertedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin's own refusal is not wrapped."""
    said = HookError("seen", needed="needed", remedy="remedy")

    def fails(*_: object, **__: object) -> None:
        raise said

    monkeypatch.setattr(attempts, "to_program", fails)
    with pytest.raises(HookError) as caught:
        quanthost.lower(net)
    assert caught.value is said


def test_what_a_backend_wraps_around_lowering(net: ConvertedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its context is entered before the toolchain runs, and left also where that fails."""
    told: list[str] = []

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        told.append("entered")
        try:
            yield
        finally:
            told.append("left")

    def fails(*_: object, **__: object) -> None:
        told.append("lowering")
        raise RuntimeError("no")

    monkeypatch.setattr(attempts, "to_program", fails)
    with pytest.raises(LoweringError):
        quanthost.lower(with_options(net, around=around))
    assert told == ["entered", "lowering", "left"]


def test_options_of_a_backend_reach_the_toolchain(
    net: ConvertedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes and both configurations, as they are."""
    given: dict[str, Any] = {}

    def keep(*_: object, **options: Any) -> None:
        given.update(options)
        raise RuntimeError("enough")

    monkeypatch.setattr(attempts, "to_program", keep)
    changed = with_options(net, passes=("pass",), edge_compile_config="edge", backend_config="backend")
    with pytest.raises(LoweringError):
        quanthost.lower(changed)
    assert (given["passes"], given["edge_config"], given["backend_config"]) == (["pass"], "edge", "backend")
    assert [partitioner.name for partitioner in given["partitioners"]] == [BACKEND]


def test_kernels_that_cannot_be_imported(net: ConvertedModel) -> None:
    """A runtime module that is missing is told before a program is made that could not run."""
    with pytest.raises(LoweringError, match="No module named 'no_such_kernels'"):
        quanthost.lower(with_options(net, runtime_modules=("no_such_kernels",)))


def test_a_runner_of_the_backend_runs_the_program(net: ConvertedModel) -> None:
    """Where a plugin brings its own runtime, that is what ``run`` calls."""
    given: list[list[torch.Tensor]] = []

    class Runs(TableBackend):
        @quanthost.api.hookimpl
        def quanthost_create_runner(self, program: bytes) -> Any:
            assert program[4:6] == b"ET"

            def run(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
                given.append(inputs)
                return [torch.full((1, 4), 7.0)]

            return run

    backend = net.calibrated.prepared.plugins.plugin(BACKEND)
    assert isinstance(backend, TableBackend)
    options = backend.quanthost_lowering_options()
    own = Runs(
        info=backend.info, table=backend.table, delegate=backend.delegate, mark=backend.mark, lowering=options
    )
    replaced = attrs.evolve(net.calibrated.prepared, plugins=Plugins([(BACKEND, own)]))
    made = quanthost.lower(attrs.evolve(net, calibrated=attrs.evolve(net.calibrated, prepared=replaced)))
    assert torch.equal(made.run(IMAGE), torch.full((1, 4), 7.0))
    assert [len(inputs) for inputs in given] == [1]


class Fixed(nn.Module):
    """Takes numbers, text and nothing beside two tensors, nested."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        seeded(self)

    def forward(
        self, pair: tuple[torch.Tensor, int], mode: str = "a", more: dict[str, Any] | None = None
    ) -> tuple[torch.Tensor, str]:
        x, times = pair
        y = self.layer(x) * times
        return (y if more is None else y + more["offset"]), mode


def test_arguments_that_tracing_fixed_are_no_inputs() -> None:
    """The program takes the two tensors; a run takes the call as it was captured."""
    x, offset = rand(2, 4), rand(2, 4, seed=1)
    call = ((x, 3), "b", {"none": None, "offset": offset, "flag": True})
    made = quanthost.quantize(Fixed(), call, BACKEND, recipe="fp32")
    from executorch.extension.pybindings import portable_lib

    module = portable_lib._load_for_executorch_from_buffer(made.buffer)
    (direct,) = module.forward([x, offset])
    result, mode = made.run(*call)
    assert torch.equal(direct, result)
    assert sqnr(Fixed()(*call)[0], result) > 100
    assert mode == "b"


def test_dynamic_sizes_of_nested_inputs() -> None:
    """Sizes that vary stay where they are when the inputs are put in a row."""

    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            seeded(self)

        def forward(self, one: dict[str, Any], *, other: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.layer(one["x"]) + other
            return y

    rows = torch.export.Dim("rows", min=1, max=6)
    shapes = {"one": {"a": None, "x": {0: rows}}, "other": {0: rows}}
    captured = quanthost.capture(
        Nested(), ({"a": 1, "x": rand(2, 4)},), {"other": rand(2, 4)}, dynamic_shapes=shapes
    )
    made = quanthost.lower(quanthost.convert(quanthost.prepare(captured, BACKEND, "fp32")))
    for count in (1, 5, 2, 6):
        x, other = rand(count, 4, seed=count), rand(count, 4, seed=count + 10)
        got = made.run({"a": 1, "x": x}, other=other)
        assert sqnr(Nested()({"x": x}, other=other), got) > 100
