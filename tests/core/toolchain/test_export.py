"""Tracing and copying: private graphs, shared weights, tags, dynamic sizes, and what is printed."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from quanthost.graph.signature import Signature
from quanthost.toolchain.export import dynamic_shapes, export, graph_module
from quanthost.toolchain.fast import naming

unflatten = sys.modules["torch.export.unflatten"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("offset", torch.ones(4, 1, 1))
        self.constant = torch.ones(4, 1, 1)

    def forward(self, x: Any) -> Any:
        return self.drop(torch.relu(self.norm(self.conv(x)))) + self.offset + self.constant


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def calls(graph: torch.fx.Graph) -> list[torch.fx.Node]:
    return [node for node in graph.nodes if node.op == "call_function"]


def test_a_forward_without_autograd_is_traced_flat() -> None:
    """Its operators stand in the graph itself, where patterns find them."""

    class Frozen(nn.Module):
        @torch.no_grad()
        def forward(self, x: Any) -> Any:
            return torch.relu(x)

    assert [str(node.target) for node in calls(export(Frozen(), (X,)).graph)] == ["aten.relu.default"]


def test_autograd_is_left_on_where_it_is_asked_for() -> None:
    """A model to be trained sees the mode in which it will be trained."""
    seen = []

    class Asks(nn.Module):
        def forward(self, x: Any) -> Any:
            seen.append(torch.is_grad_enabled())
            return torch.relu(x)

    export(Asks(), (X,))
    export(Asks(), (X,), grad=True)
    assert set(seen[: len(seen) // 2]) == {False}
    assert set(seen[len(seen) // 2 :]) == {True}


def test_what_a_model_prints_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Tracing swallows nothing of a model that it can trace."""

    class Prints(nn.Module):
        def forward(self, x: Any) -> Any:
            print("in forward", file=sys.stderr)
            return torch.relu(x)

    export(Prints(), (X,))
    assert "in forward\n" in capsys.readouterr().err


def test_a_failure_prints_nothing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Torch's dump of the half-made graph and its logged stacks would bury the message."""

    class Branches(nn.Module):
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else nn.functional.linear(x, torch.ones(7, 7))

    class Mismatch(nn.Module):
        def forward(self, x: Any) -> Any:
            return nn.functional.linear(x, torch.ones(7, 7))

    for model in (Branches(), Mismatch()):
        with pytest.raises(RuntimeError):
            export(model, (X,))
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


class TestGraphModule:
    """The private copy."""

    @pytest.fixture(scope="class")
    @classmethod
    def program(cls) -> ExportedProgram:
        return export(Net().eval(), (X,))

    def test_it_computes_what_the_model_computes(self, program: ExportedProgram) -> None:
        """To the last bit."""
        assert torch.equal(graph_module(program)(X), Net().eval()(X))

    def test_changing_it_leaves_the_program_alone(self, program: ExportedProgram) -> None:
        """Nodes, their metadata and the graph's code are its own."""
        before = str(program.graph), [dict(node.meta) for node in program.graph.nodes]
        copy = graph_module(program)
        relu = next(node for node in calls(copy.graph) if node.name == "relu")
        relu.target = torch.ops.aten.tanh.default
        relu.meta["custom"]["mine"] = 1
        copy.recompile()
        assert (str(program.graph), [dict(node.meta) for node in program.graph.nodes]) == before
        assert not any("custom" in node.meta for node in calls(program.graph))

    def test_weights_are_shared(self, program: ExportedProgram) -> None:
        """A copy of a large model costs its graph alone."""
        copy = graph_module(program)
        for name, tensor in program.state_dict.items():
            held = copy.state_dict()[name]
            assert held.data_ptr() == tensor.data_ptr(), name
        assert copy.constant.data_ptr() == program.constants["constant"].data_ptr()

    def test_buffers_that_it_writes_are_not_shared(self) -> None:
        """Statistics of the copy's training are not those of the program."""
        program = export(Net().train(), (X,), grad=True)
        before = {name: tensor.clone() for name, tensor in program.state_dict.items()}
        copy = graph_module(program)
        copy(X)
        assert copy.get_buffer("norm.num_batches_tracked").item() == 1
        assert all(torch.equal(before[name], tensor) for name, tensor in program.state_dict.items())
        assert copy.get_buffer("offset").data_ptr() == program.state_dict["offset"].data_ptr()

    def test_each_call_is_tagged_with_its_name(self, program: ExportedProgram) -> None:
        """The names are those of the program's nodes."""
        copy = graph_module(program)
        tags = [node.meta["custom"]["quanthost"] for node in calls(copy.graph)]
        assert tags == [node.name for node in calls(copy.graph)]
        assert tags == [node.name for node in calls(program.graph)]

    def test_tags_survive_another_export(self, program: ExportedProgram) -> None:
        """Metadata under ``custom`` is what torch carries through."""
        copy = graph_module(program)
        again = export(copy, (X,))
        assert [node.meta["custom"]["quanthost"] for node in calls(again.graph)] == [
            node.name for node in calls(copy.graph)
        ]

    def test_a_program_made_of_an_earlier_copy_is_tagged_anew(self, program: ExportedProgram) -> None:
        """Names of another graph would lead to the wrong nodes; what others wrote stays."""
        copy = graph_module(program)
        for node in calls(copy.graph):
            node.meta["custom"] = {"quanthost": f"old_{node.name}", "other": 1}
        again = graph_module(export(copy, (X,)))
        for node in calls(again.graph):
            assert node.meta["custom"] == {"quanthost": node.name, "other": 1}


class Halves(nn.Module):
    """Joins pairs of rows."""

    def forward(self, x: Any, y: Any = None) -> Any:
        joined = x.reshape(-1, 2, 3).sum(1)
        return joined if y is None else joined + y


class Nested(nn.Module):
    """Dynamic sizes inside of containers, and an argument by name."""

    def forward(self, pair: Any, *rest: Any, scale: Any = None) -> Any:
        return (pair["a"] + rest[0]) * scale


half, rows = Dim("half", min=2, max=8), Dim("rows", min=2, max=9)
ONES = torch.ones
DYNAMIC: dict[str, tuple[nn.Module, Any, Any, Any]] = {
    "one": (nn.ReLU(), (ONES(4, 3),), {}, ({0: rows},)),
    "two": (nn.ReLU(), (ONES(4, 3),), {}, ({0: rows, 1: Dim("columns", max=64)},)),
    "no end": (nn.ReLU(), (ONES(4, 3),), {}, ({0: Dim("endless")},)),
    "shared": (Halves(), (ONES(6, 3), ONES(3, 3)), {}, ({0: 2 * half}, {0: half})),
    "multiple": (Halves(), (ONES(6, 3),), {}, {"x": {0: 2 * half}}),
    "left to torch": (Halves(), (ONES(6, 3), ONES(3, 3)), {}, ({0: Dim.AUTO}, {0: Dim.AUTO(max=9)})),
    "only even, left to torch": (Halves(), (ONES(6, 3),), {}, ({0: Dim.AUTO},)),
    "nested": (
        Nested(), ({"a": ONES(4, 3)}, ONES(4, 3)), {"scale": ONES(3)},
        {"pair": {"a": {0: rows}}, "rest": ({0: rows},), "scale": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "args", "kwargs", "given"), DYNAMIC.values(), ids=DYNAMIC.keys())
def test_dynamic_shapes_give_the_same_signature_again(
    model: nn.Module, args: Any, kwargs: Any, given: Any
) -> None:
    """A copy that is exported again takes the same sizes, whatever form they were given in."""
    program = export(model, args, kwargs, given)
    found = dynamic_shapes(program, given)
    again = export(graph_module(program), args, kwargs, found)
    first, second = Signature.of(program), Signature.of(again)
    assert first.inputs == second.inputs
    assert ".." in "".join(map(str, first.inputs))


def test_a_collection_of_shapes_knows_the_callers_tensors() -> None:
    """Torch's ``ShapesCollection`` is filled by identity of tensors."""
    x = ONES(4, 3)
    shapes = torch.export.ShapesCollection()
    shapes[x] = {0: rows}
    (leaf,) = Signature.of(export(nn.ReLU(), (x,), None, shapes)).inputs
    assert str(leaf) == "float32[2..9, 3]"


def test_a_program_of_fixed_sizes_has_no_dynamic_shapes() -> None:
    """``None`` says that nothing varies."""
    assert dynamic_shapes(export(nn.ReLU(), (ONES(4, 3),))) is None


def test_a_number_that_varies_stays_one() -> None:
    """A dynamic int is handed on as such."""

    class Plus(nn.Module):
        def forward(self, x: Any, n: Any) -> Any:
            return x + n

    program = export(Plus(), (ONES(2), 3), None, (None, Dim.DYNAMIC))
    again = export(graph_module(program), (ONES(2), 5), None, dynamic_shapes(program))
    assert torch.equal(graph_module(again)(ONES(2), 9), ONES(2) * 10)


def test_names_of_shared_modules_are_told_apart() -> None:
    """A weight goes to its module and to the module's other calls, and to no sibling of a longer name."""
    names = ("1", "1@1", "1@12", "11", "1@", "1@x", "1@1x", "2", "", "a1", "A", "1²")

    for base in ("1", "11", "a", "1@1"):
        for name in names:
            wanted = unflatten._is_call_name(name, base)
            assert naming._is_call_name(None, name, base) == wanted, (name, base)


def test_torch_has_its_own_name_test_again() -> None:
    before = unflatten._is_call_name

    graph_module(export(Net(), (X,)))

    assert unflatten._is_call_name is before
