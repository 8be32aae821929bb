"""Passes that recompute what they change, and nothing else; and graphs that become programs untraced."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from executorch.exir.pass_base import ExportPass
from flow_nets import rand
from torch import Tensor, fx, nn
from torch._export.passes.replace_view_ops_with_view_copy_ops_pass import (
    ReplaceViewOpsWithViewCopyOpsPass,
)
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.passes.infra.pass_base import PassResult

from quanthost.toolchain.active import using
from quanthost.toolchain.edge import to_program
from quanthost.toolchain.fast import decompose, lift, retrace
from quanthost.values import Toolchain

aten = torch.ops.aten


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(torch.relu(x) + 1.0).sum(1)


@pytest.fixture
def program() -> ExportedProgram:
    return torch.export.export(Net(), (rand(2, 3),)).run_decompositions({})


def _node(module: fx.GraphModule, target: object) -> fx.Node:
    (found,) = module.graph.find_nodes(op="call_function", target=target)
    return found


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes that are computed anew."""
    computed: list[str] = []
    compute = retrace.compute
    monkeypatch.setattr(retrace, "compute", lambda n, mode: (computed.append(n.name), compute(n, mode))[1])
    return computed


def test_what_did_not_change_is_kept(program: ExportedProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass without changes computes nothing, and gives back the graph that it was given."""
    computed = _counted(monkeypatch)
    before = str(program.graph)

    with retrace.incremental():
        made = ExportPass()(program.graph_module).graph_module

    assert computed == []
    assert made is program.graph_module
    assert str(made.graph) == before


def test_other_operators_come_in_a_graph_of_their_own(program: ExportedProgram) -> None:
    """A pass that exchanges operators leaves the given graph alone."""
    before = str(program.graph)

    with retrace.incremental():
        made = ReplaceViewOpsWithViewCopyOpsPass()(program.graph_module).graph_module

    assert str(program.graph) == before
    old, new = (list(module.graph.nodes) for module in (program.graph_module, made))
    assert [node.name for node in old] == [node.name for node in new]
    assert not set(old) & set(new)


class Widens(ExportPass):
    """Changes an operator in the graph, then has the graph traced."""

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        relu = _node(graph_module, aten.relu.default)
        with graph_module.graph.inserting_after(relu):
            made = graph_module.graph.call_function(aten.repeat.default, (relu, [1, 4]))
        relu.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)
        return super().call(graph_module)


def test_what_changed_is_computed_with_all_behind_it(
    program: ExportedProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes go on until they are as before."""
    with retrace.incremental():
        sealed = ExportPass()(program.graph_module).graph_module
        computed = _counted(monkeypatch)
        made = Widens()(sealed).graph_module

    assert _node(made, aten.sigmoid.default).meta["val"].shape == (2, 12)
    assert len(computed) == 4  # repeat, add, sigmoid, and the sum, whose shape is as before
    assert "relu" not in computed[0]


class Calls(nn.Module):
    """Operators twice with operands alike, and once with a number of another type."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        integers = torch.ops.aten.add.Tensor(torch.argmax(x, 1), 1)
        floats = torch.ops.aten.add.Tensor(torch.argmax(y, 1), 1.0)
        return x.sum(1), y.sum(1), integers, floats, x.sum(0), x.t().relu()


def test_operands_alike_give_results_alike() -> None:
    """What is known of an operator is used again, in a memory of its own; other operands are computed."""
    graph = torch.export.export(Calls(), (rand(2, 3), rand(2, 3))).run_decompositions({}).graph
    calls = [node for node in graph.nodes if node.op == "call_function"]
    mode = calls[0].meta["val"].fake_mode

    for node in calls:
        first, again = (retrace.compute(node, mode) for _ in range(2))
        for made in (first, again):
            assert made.fake_mode is mode
            assert (made.dtype, made.shape, made.stride(), made.device) == (
                node.meta["val"].dtype, node.meta["val"].shape, node.meta["val"].stride(),
                node.meta["val"].device,
            )  # fmt: skip
        assert first is not again
    assert len(retrace._FORMS[mode]) < len(calls)


def test_what_is_known_goes_with_its_mode() -> None:
    """Results hold their mode; what is kept of them does not."""
    mode, graph = FakeTensorMode(), fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = mode.from_tensor(rand(2, 3))
    relu = graph.call_function(aten.relu.default, (x,))
    retrace.compute(relu, mode)
    assert mode in retrace._FORMS
    gone = weakref.ref(mode)

    del mode, graph, x, relu
    gc.collect()

    assert gone() is None


def test_symbolic_sizes_and_constants_are_computed_each_time() -> None:
    """No key tells them from others."""
    dynamic = ({0: torch.export.Dim("rows", max=8)},)
    graph = torch.export.export(Net(), (rand(2, 3),), dynamic_shapes=dynamic).run_decompositions({}).graph
    (relu,) = graph.find_nodes(op="call_function", target=aten.relu.default)

    assert retrace._key(relu) is None


class Doubles(ExportPass):
    """Rewrites while tracing; the table does not know it."""

    def call_operator(self, op, args, kwargs, meta):  # type: ignore[no-untyped-def]
        made = super().call_operator(op, args, kwargs, meta)
        if op is aten.relu.default:
            return super().call_operator(aten.add.Tensor, (made, made), {}, meta)
        return made


class Mixed(nn.Module):
    """Numbers among tensors, operands of two types, copies in other layouts."""

    def forward(self, x: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        floats = (3 - x) / 4 + x * 2 + i * 2
        rounded = torch.div(i, 3, rounding_mode="floor")
        small = torch.minimum(i, i.to(torch.int32)) + (i > 2)
        nearer = x.to(memory_format=torch.channels_last).clone().mean((2, 3))
        return floats, rounded, i / 2, small, nearer, (i + True).to(torch.float16) * 0.5, x.sum(1)


def test_rewriting_passes_make_the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte; the one pass that traces is the one that inserts a copy before a channels-last mean."""
    exported = torch.export.export(Mixed(), (rand(1, 3, 4, 4), torch.arange(48).reshape(1, 3, 4, 4)))
    traced: list[str] = []
    quickly = retrace._run_incrementally

    def watched(self: ExportPass, module: fx.GraphModule, base: type) -> PassResult | None:
        made = quickly(self, module, base)
        traced.extend([type(self).__name__] if made is None else [])
        return made

    monkeypatch.setattr(retrace, "_run_incrementally", watched)
    quick = to_program(exported, partitioners=[])
    with using(Toolchain.UPSTREAM):
        upstream = to_program(exported, partitioners=[])

    assert quick.buffer == upstream.buffer
    assert traced == ["LegalizePortableDimOrderPass"]


def test_what_is_noted_survives_a_deep_copy(
    program: ExportedProgram, recwarn: pytest.WarningsRecorder
) -> None:
    """A pass that copies a node's notes changes nothing of what is known, and copies no fake tensor."""
    with retrace.incremental():
        made = ExportPass()(program.graph_module).graph_module
    relu = _node(made, aten.relu.default)

    assert copy.deepcopy(relu.meta[retrace._COMPUTED_FROM]) == relu.meta[retrace._COMPUTED_FROM]
    assert not recwarn.list


def test_an_unknown_rewriting_pass_traces(program: ExportedProgram) -> None:
    """It does what it does without us."""
    with retrace.incremental():
        quick = Doubles()(program.graph_module).graph_module
    assert [n.target for n in quick.graph.nodes] == [
        n.target for n in Doubles()(program.graph_module).graph_module.graph.nodes
    ]


def test_outside_of_the_block_all_is_traced(
    program: ExportedProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours takes part."""
    monkeypatch.setattr(retrace, "_run_incrementally", lambda *_: pytest.fail("took part"))
    with retrace.incremental():
        pass

    ExportPass()(program.graph_module)


def _operators(program: ExportedProgram | fx.GraphModule) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


class Composite(nn.Module):
    def __init__(self, function: Callable[..., Tensor], *weights: Tensor) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.weights)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.conv2d(x, x), lambda x: nn.functional.hardswish(x).flatten(1),
        lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 1), lambda x: x.chunk(3, 1)[1] + x.std(1, True),
        lambda x: torch.nn.functional.group_norm(x, 3), lambda x: x.softmax(1).expand(4, -1, -1, -1),
        lambda x: x.mT.reshape(-1, 3), lambda x: x @ x.mT,
        lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"),
    ],
)  # fmt: skip
def test_operators_are_taken_apart_as_torch_does(function: Callable[..., Tensor]) -> None:
    """The same operators in the same order, and the same numbers."""
    x = rand(1, 3, 6, 6)
    exported = torch.export.export(Composite(function), (x,))
    table = torch.export.default_decompositions()

    made = decompose.decompose(exported, dict(table))

    assert made is not None
    wanted = exported.run_decompositions(table)
    assert _operators(made) == _operators(wanted)
    assert torch.equal(made.module()(x), wanted.module()(x))


def test_like_operators_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten layers of one kind are one trace; each place has a tensor of its own."""
    traced: list[object] = []
    make_fx = decompose.make_fx
    monkeypatch.setattr(decompose, "make_fx", lambda *a, **k: (traced.append(a), make_fx(*a, **k))[1])
    exported = torch.export.export(nn.Sequential(*[nn.Linear(4, 4) for _ in range(10)]), (rand(2, 4),))

    made = decompose.decompose(exported, dict(torch.export.default_decompositions()))

    assert made is not None
    assert len(traced) == 1
    values = [node.meta["val"] for node in made.graph.nodes if node.op == "call_function"]
    assert len({id(value) for value in values}) == len(values)


def test_what_is_left_to_torch() -> None:
    """Writes, sizes that are not known, and composites whose sums a table may want whole."""
    x = rand(2, 3)
    rows = {0: torch.export.Dim("rows", min=1, max=4)}
    table = dict(torch.export.default_decompositions())
    lstm = nn.LSTM(3, 3)

    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1).relu_()

    class Picks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[x > 0] * 2

    assert decompose.decompose(torch.export.export(Picks(), (x,)), table) is None
    assert lift.lift(torch.export.export(Picks(), (x,)).module(check_guards=False), [x]) is None
    assert decompose.decompose(torch.export.export(Writes(), (x,)), table) is None
    assert decompose.decompose(torch.export.export(Net(), (x,), dynamic_shapes=(rows,)), table) is None
    assert decompose.decompose(torch.export.export(lstm, (rand(2, 1, 3),)), table) is None
    assert lift.lift(torch.export.export(Writes(), (x,)).module(), [x]) is None
    assert lift.lift(torch.export.export(Net(), (x,)).module(), [3]) is None


def test_a_lifted_graph_is_the_program() -> None:
    """Weights are inputs, shared with the graph, one for each name; the program computes the same."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    x = rand(3, 4)
    module = torch.export.export(model, (x,)).module(check_guards=False)

    made = lift.lift(module, [x])

    assert made is not None
    assert torch.equal(made.module()(x)[0], model(x))
    weights = dict(model.named_parameters())
    assert {name for name in made.state_dict if name in weights} == set(weights)
    assert all(made.state_dict[name].data_ptr() == weights[name].data_ptr() for name in weights)
    assert set(made.graph_signature.parameters) == set(weights)
    assert made.graph_signature.user_outputs == (list(made.graph.nodes)[-1].args[0][0].name,)
