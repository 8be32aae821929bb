"""Capture: awkward models and inputs, the model left as it was, and what is refused."""

from __future__ import annotations

import collections
import dataclasses
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from quanthost.caller_warning import QuanthostWarning
from quanthost.errors import CaptureError, InputError, RequestError
from quanthost.graph.signature import TensorSpec
from quanthost.stages.capturing.capture import CapturedModel, capture
from quanthost.toolchain.export import graph_module


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def replay(captured: CapturedModel, *args: Any, **kwargs: Any) -> Any:
    """Run the captured program through its signature, as a runtime would."""
    flat = captured.signature.flatten(args, kwargs)
    call = pytree.tree_unflatten(flat, captured.signature.in_spec)
    result = graph_module(captured.exported)(*call[0], **call[1])
    return captured.signature.unflatten(pytree.tree_leaves(result))


def assert_same(first: Any, second: Any) -> None:
    """Same structure, same leaves, tensors to the last bit."""
    assert pytree.tree_structure(first) == pytree.tree_structure(second)
    for a, b in zip(pytree.tree_leaves(first), pytree.tree_leaves(second)):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    states: tuple[torch.Tensor, ...]


torch.export.register_dataclass(Output, serialized_type_name="test_capture.Output")
Pair = collections.namedtuple("Pair", "first second")


class Function(nn.Module):
    """A model whose forward is a function of its inputs."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        return self.layer(torch.relu(self.layer(x)))


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.arange(3.0)
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0]), persistent=False)

    def forward(self, x: Any) -> Any:
        return x * self.table + self.mask + torch.tensor([0.5, 1.5, 2.5])


class Conv(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, dtype=dtype)
        self.norm = nn.BatchNorm2d(4, dtype=dtype)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return self.drop(F.relu(self.norm(self.conv(x))))


IMAGE = randn(2, 3, 6, 6)
X = randn(2, 3)
ACCEPTED: dict[str, tuple[nn.Module, tuple[Any, ...], dict[str, Any]]] = {
    "one tensor": (nn.ReLU(), (X,), {}),
    "no inputs": (Function(lambda: torch.ones(2)), (), {}),
    "keywords": (Function(lambda x, *, scale: x * scale), (X,), {"scale": randn(3)}),
    "nested inputs": (Function(lambda p: p["a"][0] + p["b"]), ({"a": [X], "b": X},), {}),
    "list argument": (Function(lambda xs: torch.cat(xs)), ([X, X],), {}),
    "int input": (Function(lambda x, n: x * n), (X, 3), {}),
    "flag and None": (Function(lambda x, m=None, up=False: x * 2 if up else x), (X, None, True), {}),
    "nested result": (Function(lambda x: {"a": (x * 2, [x + 1]), "b": {"c": x - 1}}), (X,), {}),
    "dataclass result": (Function(lambda x: Output(x * 2, (x, x + 1))), (X,), {}),
    "namedtuple result": (Function(lambda x: Pair(x * 2, x + 1)), (X,), {}),
    "None in the result": (Function(lambda x: (None, x * 2, {"k": None})), (X,), {}),
    "numbers in the result": (Function(lambda x: (x.shape[0], x * 2, 1.5, "s", True)), (X,), {}),
    "tensor twice in the result": (Function(lambda x: (y := x * 2, y, [y])), (X,), {}),
    "input in the result": (Function(lambda x, y: {"x": x, "sum": x + y, "y": y}), (X, X + 1), {}),
    "weight in the result": (Constants(), (X,), {}),
    "module used twice": (Shared(), (X,), {}),
    "channels last": (Conv(), (IMAGE.to(memory_format=torch.channels_last),), {}),
    "not contiguous": (Shared(), (randn(3, 2).T,), {}),
    "expanded": (Shared(), (randn(1, 3).expand(2, 3),), {}),
    "empty batch": (Shared(), (randn(0, 3),), {}),
    "requires grad": (Shared(), (randn(2, 3).requires_grad_(),), {}),
    "half precision": (Conv(torch.float16), (IMAGE.half(),), {}),
    "bfloat16": (Conv(torch.bfloat16), (IMAGE.bfloat16(),), {}),
    "lifted constants": (Constants(), (X,), {}),
    "recurrent": (nn.LSTM(3, 4, batch_first=True), (randn(1, 2, 3),), {}),
    "attention": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (randn(1, 5, 8),), {}),
    "tied weights": (nn.Sequential(layer := nn.Linear(3, 3), nn.ReLU(), layer), (X,), {}),
}


@pytest.mark.parametrize(("model", "args", "kwargs"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_captured_programs_compute_what_the_model_computes(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """In evaluation, to the last bit, in the structure that the model returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", QuanthostWarning)
        captured = capture(model, args, kwargs)
    # with autograd on: without it torch takes other kernels for attention than those it traces
    assert_same(replay(captured, *args, **kwargs), model.eval()(*args, **kwargs))
    assert captured.digest == capture(model, args, kwargs).digest


class Difference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def forward(self, x: Any, y: Any) -> Any:
        return x - 2 * y + 3 * self.weight


@pytest.mark.parametrize("place", ["other argument", "parameter"])
def test_one_tensor_in_two_places_stays_two(place: str) -> None:
    """The examples happen to be one object; the program still reads each place for itself."""
    model = Difference()
    example = X if place == "other argument" else model.weight
    captured = capture(model, (X, example))
    with torch.no_grad():
        assert_same(replay(captured, X + 1, X * 5), model(X + 1, X * 5))
    again = capture(graph_module(captured.exported), captured.example_args)
    with torch.no_grad():
        assert_same(replay(again, X + 1, X * 5), model(X + 1, X * 5))


def test_ways_to_give_inputs() -> None:
    """A tensor, a list or tuple of arguments, a mapping of arguments by name, or both kinds."""
    model = Function(lambda x, y=None: x * 2 if y is None else x + y)
    one = {capture(model, X).signature, capture(model, [X]).signature, capture(model, (X,)).signature}
    assert len(one) == 1
    by_name = capture(model, {"x": X, "y": X})
    assert by_name.signature.call_form() == "(x=..., y=...)"
    assert (by_name.example_args, list(by_name.example_kwargs)) == ((), ["x", "y"])
    assert capture(model, X, {"y": X}).signature.call_form() == "(args_0, y=...)"
    assert capture(Function(lambda d: d["x"] * 2), ({"x": X},)).signature.takes_mapping()


def test_inputs_of_another_type_are_refused() -> None:
    """An array is neither a tensor nor a tuple of arguments."""
    with pytest.raises(InputError, match="inputs of type ndarray") as caught:
        capture(nn.ReLU(), X.numpy())
    assert caught.value.remedy == "put the arguments into a tuple, for example inputs=(x,)"


def test_a_function_is_no_model() -> None:
    """What to do with it is said."""
    with pytest.raises(CaptureError, match="a model of type function") as caught:
        capture(lambda x: x, X)
    assert "wrap it in an nn.Module" in caught.value.remedy


class TestDynamicBatch:
    """Sizes that vary."""

    batch = torch.export.Dim("batch", min=1, max=32)

    def test_one_program_serves_every_size(self) -> None:
        """Also the smallest and the largest, and a size that was never an example."""
        captured = capture(Conv(), IMAGE, dynamic_shapes=({0: self.batch},))
        model = Conv().eval()
        for size in (1, 5, 32):
            images = randn(size, 3, 6, 6)
            with torch.no_grad():
                torch.testing.assert_close(replay(captured, images), model(images))
        with pytest.raises(InputError, match="dimension 0 of argument 0 \\('x'\\) is 33"):
            replay(captured, randn(33, 3, 6, 6))

    def test_the_signature_and_the_dynamic_shapes_say_so(self) -> None:
        """One as a range, the other in torch's terms."""
        captured = capture(Conv(), IMAGE, dynamic_shapes={"x": {0: self.batch}})
        (leaf,) = captured.signature.inputs
        assert isinstance(leaf, TensorSpec)
        assert str(leaf) == "float32[1..32, 3, 6, 6]"
        assert captured.dynamic_shapes is not None
        assert list(captured.dynamic_shapes[0]) == [0]
        assert capture(Conv(), IMAGE).dynamic_shapes is None


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


class TestTheModelIsLeftAsItWas:
    """Weights, buffers, modes, attributes, hooks and requires_grad."""

    @pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
    def test_mixed_modes_come_back(self, train: bool) -> None:
        """Each module has its own mode again, not that of the model."""
        model = Conv().train()
        model.norm.eval()
        before = modes(model)
        assert capture(model, IMAGE, train=train).train is train
        assert modes(model) == before

    @pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
    def test_weights_and_statistics_keep_their_values(self, train: bool) -> None:
        """Also those that training updates."""
        model = Conv().train()
        model.conv.weight.requires_grad_(False)
        before = {k: (id(v), v.clone(), v.requires_grad) for k, v in model.state_dict(keep_vars=True).items()}
        graph_module(capture(model, IMAGE, train=train).exported)(IMAGE)
        after = {k: (id(v), v, v.requires_grad) for k, v in model.state_dict(keep_vars=True).items()}
        assert before.keys() == after.keys()
        for name, (identity, value, grad) in before.items():
            assert (identity, grad) == (after[name][0], after[name][2]), name
            assert torch.equal(value, after[name][1]), name

    def test_attributes_that_forward_makes_are_taken_away(self) -> None:
        """A tensor of the trace in the model would break its next call."""

        class Remembers(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.calls: list[torch.Tensor] = []
                self.count = 0

            def forward(self, x: Any) -> Any:
                self.last = x * 2
                self.calls.append(self.last)
                self.count += 1
                return self.last + 1

        model = Remembers()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            captured = capture(model, X)
        assert not hasattr(model, "last")
        assert (model.calls, model.count) == ([], 0)
        assert_same(replay(captured, X), model(X))

    def test_it_comes_back_from_a_failure_too(self) -> None:
        """A refusal is no reason to leave the model in another mode."""
        model = nn.Sequential(nn.Dropout(), Function(lambda x: x if x.sum() > 0 else -x))
        model[0].eval()
        before = modes(model)
        with pytest.raises(CaptureError):
            capture(model, X)
        assert modes(model) == before

    def test_hooks_run_in_the_trace_and_stay(self) -> None:
        """What a hook does to a result is part of what the model computes."""
        model = Shared()
        model.layer.register_forward_hook(lambda module, args, result: result * 2)
        captured = capture(model, X)
        assert len(model.layer._forward_hooks) == 1
        with torch.no_grad():
            assert_same(replay(captured, X), model(X))

    def test_inputs_keep_their_values(self) -> None:
        """The examples are only looked at."""
        before = X.clone()
        capture(Shared(), X)
        assert torch.equal(X, before)


def switches(captured: CapturedModel) -> dict[str, Any]:
    """The training switch of batch norm and dropout in the graph."""
    position = {"aten.batch_norm.default": 5, "aten.dropout.default": 2}
    return {
        str(node.target): node.args[position[str(node.target)]]
        for node in captured.exported.graph.nodes
        if str(node.target) in position
    }


def test_training_form_is_kept_where_it_is_asked_for() -> None:
    """Batch norm and dropout can be switched later; the model's own mode does not matter."""
    for model in (Conv().train(), Conv().eval()):
        assert set(switches(capture(model, IMAGE, train=True)).values()) == {True}
        assert set(switches(capture(model, IMAGE)).values()) == {False}


def test_a_model_that_overrides_train_keeps_its_say() -> None:
    """Frozen batch norm stays frozen, as in the model's own training."""

    class Frozen(Conv):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self.norm.eval()
            return self

    captured = capture(Frozen(), IMAGE, train=True)
    assert switches(captured) == {"aten.batch_norm.default": False, "aten.dropout.default": True}


class Counter(nn.Module):
    """Keeps a tensor from call to call in one way or another."""

    def __init__(self, step: Any) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("total", torch.zeros(3))
        self.weight = nn.Parameter(torch.ones(3))
        self.hidden = torch.zeros(3)

    def forward(self, x: Any) -> Any:
        return self.step(self, x)


def in_place(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.total += x.sum(0)
    return x + m.total


def assigned(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.total = m.total + x.sum(0)
    return x + m.total


def parameter(m: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        m.weight.mul_(2)
    return x * m.weight


def attribute(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.hidden = m.hidden * 0.5 + x.sum(0)
    return x + m.hidden


STATE = {
    "buffer in place": (in_place, "forward changes the buffer 'total'"),
    "buffer assigned": (assigned, "forward changes the buffer 'total'"),
    "parameter": (parameter, "forward changes the parameter 'weight'"),
    "attribute": (attribute, "forward reads and assigns the attribute 'hidden'"),
}


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("step", "seen"), STATE.values(), ids=STATE.keys())
def test_state_from_call_to_call_is_refused(step: Any, seen: str, train: bool) -> None:
    """By name and line, with the way to write it; a program would lose or misplace such state."""
    model = Counter(step)
    with pytest.raises(CaptureError, match=seen) as caught:
        capture(model, X, train=train)
    assert "return its new value as an output" in caught.value.remedy
    assert f"{__file__}:" in caught.value.where
    assert "return self.step(self, x)" in caught.value.where
    assert torch.equal(model.total, torch.zeros(3))


INPUT_WRITES = {
    "argument": (lambda x: x.add_(1), (X.clone(),), "'x'"),
    "inside a container": (
        lambda d: F.relu(d["a"][1], inplace=True), ({"a": [X, X.clone()]},), "\"d['a'][1]\"",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "args", "name"), INPUT_WRITES.values(), ids=INPUT_WRITES.keys())
def test_changing_an_argument_is_refused(run: Any, args: tuple[Any, ...], name: str) -> None:
    """The caller's tensor must not change, so the program must not try."""

    class Writes(nn.Module):
        forward = staticmethod(run)

    with pytest.raises(CaptureError) as caught:
        capture(Writes(), args)
    assert caught.value.seen == f"forward changes its argument {name} in place"
    assert "x.clone()" in caught.value.remedy


def test_a_tensor_attribute_that_is_only_assigned_is_torchs_warning() -> None:
    """Nothing is lost by it, so it is no refusal; but it is not kept silent either."""

    class Remembers(nn.Module):
        def forward(self, x: Any) -> Any:
            self.last = x * 2
            return self.last

    with pytest.warns(UserWarning, match=r"self\.last was assigned during export"):
        capture(Remembers(), X)


class TestExportedPrograms:
    """Programs that the user exported."""

    def test_one_is_taken_as_it_is(self) -> None:
        """Same digest and class as the model's; its own examples serve."""
        with torch.no_grad():
            program = torch.export.export(Conv().eval(), (IMAGE,))
        text = str(program.graph)
        captured, direct = capture(program), capture(Conv(), IMAGE)
        assert captured.exported is program
        assert captured.digest == direct.digest
        assert captured.model_class == direct.model_class == f"{__name__}.Conv"
        assert torch.equal(captured.example_args[0], IMAGE)
        graph_module(captured.exported)
        assert str(program.graph) == text
        assert not any("quanthost" in node.meta.get("custom", {}) for node in program.graph.nodes)

    def test_other_examples_are_checked(self) -> None:
        """They must be what the program takes."""
        program = torch.export.export(Shared().eval(), (X,))
        assert torch.equal(capture(program, X + 1).example_args[0], X + 1)
        with pytest.raises(InputError, match=r"argument 0 \('x'\) is float32\[5, 3\]"):
            capture(program, randn(5, 3))

    def test_dynamic_shapes_come_too_late(self) -> None:
        """They belong to the export that has been."""
        program = torch.export.export(Shared().eval(), (X,))
        with pytest.raises(RequestError, match="already exported"):
            capture(program, X, dynamic_shapes=({0: torch.export.Dim("batch")},))

    def test_one_in_training_form_is_refused_unless_asked_for(self) -> None:
        """Its batch norm would use the statistics of each batch."""
        program = torch.export.export(Conv().train(), (IMAGE,))
        with pytest.raises(CaptureError, match=r"forward changes the buffer 'norm\.") as caught:
            capture(program)
        assert "model.eval()" in caught.value.remedy
        assert capture(program, train=True).train

    def test_a_graph_module_of_one_is_a_model(self) -> None:
        """Though it cannot change its mode."""
        with torch.no_grad():
            module = torch.export.export(Shared().eval(), (X,)).module(check_guards=False)
            assert_same(replay(capture(module, X), X), Shared()(X))


def test_nodes_say_where_they_come_from() -> None:
    """Operator, path of the module for both of its uses, and the line."""
    nodes = capture(Shared(), X).nodes()
    assert [(n.operator, n.module) for n in nodes] == [
        ("aten.linear.default", "layer"),
        ("aten.relu.default", ""),
        ("aten.linear.default", "layer"),
    ]
    assert all(n.source is not None and n.source.startswith("test_capture.py:") for n in nodes)


def test_the_record_is_frozen() -> None:
    """Stages hand it on and change nothing."""
    captured = capture(Shared(), X)
    with pytest.raises(AttributeError):
        captured.train = True  # type: ignore[misc]  # the refusal is what is tested
    assert "TensorSpec" not in repr(captured)


def test_another_device() -> None:
    """Weights that were never loaded, and inputs elsewhere: which, where, and what to do."""
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    with pytest.raises(CaptureError, match=r"weight on the device meta\n(.*\n)*.*load the weights first"):
        capture(empty, torch.zeros(1, 2))
    with pytest.raises(CaptureError, match="an example input on the device meta"):
        capture(nn.ReLU(), torch.zeros(1, 2, device="meta"))


def test_training_mode_is_told() -> None:
    """Once a capture, where a layer depends on the mode; the model stays as it is."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    with pytest.warns(QuanthostWarning, match="BatchNorm1d '1' is in training mode") as caught:
        capture(model, torch.rand(2, 4))

    assert [each.filename for each in caught if each.category is QuanthostWarning] == [__file__]
    assert model.training
    with warnings.catch_warnings():
        warnings.simplefilter("error", QuanthostWarning)
        capture(model, torch.rand(2, 4), train=True)
        capture(nn.Linear(4, 4), torch.rand(2, 4))
        capture(model.eval(), torch.rand(2, 4))


@pytest.mark.parametrize(
    ("function", "seen"),
    [
        (lambda x: x.sum().item(), "(node item) is a SymFloat, a number that is computed"),
        (lambda x: x.to_sparse(), "(node to_sparse) is a tensor of layout torch.sparse_coo"),
    ],
)
def test_results_that_no_program_has(function: Any, seen: str) -> None:
    """The operator that gives them is named."""

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return function(x)

    with pytest.raises(InputError) as caught:
        capture(Model(), torch.rand(2, 3))
    assert seen in str(caught.value)
