"""``prepare``: what it refuses, what it decides, and that writes and memory orders do not deceive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F
from flow_nets import BACKEND, Net, images, prepared, seeded, sqnr, untouched
from torch import nn

import quanthost
from quanthost.api import Problem, TableBackend, hookimpl
from quanthost.errors import RequestError, TableError
from quanthost.hooks.manager import Plugins
from quanthost.host.requests import resolve
from quanthost.host.target import Target
from quanthost.stages.preparing.prepare import HostQuantizer, prepare, recipe_of
from quanthost.toolchain.observers import RangeObserver
from quanthost.values import Decision, Request, Verdict

IMAGE = images(1)[0]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return resolve(Target(backend=BACKEND))[0]


def backend_of(plugins: Plugins) -> TableBackend:
    backend = plugins.plugin(BACKEND)
    assert isinstance(backend, TableBackend)
    return backend


def test_the_recipe_of_a_request(plugins: Plugins) -> None:
    """The value that the backend declares under the name."""
    assert recipe_of(plugins, Request(backends=BACKEND, recipe="int8_static")).name == "int8_static"


def test_unknown_recipe_is_refused(plugins: Plugins) -> None:
    """The message lists the recipes of the backend."""
    with pytest.raises(RequestError) as caught:
        recipe_of(plugins, Request(backends=BACKEND, recipe="int7"))
    assert (
        str(caught.value)
        == """\
the recipe 'int7', which xnnpack_like does not have
  needed: one of int8_static, int8_static_per_tensor, int8_dynamic, int4_group_dynamic, int8_weight_only, fp32
  where:  stage prepare, backend xnnpack_like
  to do:  choose one of these recipes"""
    )


def test_the_nearest_recipe_is_named(plugins: Plugins) -> None:
    """What was mistyped is mostly a letter away."""
    with pytest.raises(RequestError) as caught:
        recipe_of(plugins, Request(backends=BACKEND, recipe="int8_statik"))
    assert caught.value.remedy == "ask for 'int8_static'"


def test_every_backend_of_the_list_must_have_the_recipe(plugins: Plugins) -> None:
    """The first has it, the second does not: the message names the second."""
    backend = backend_of(plugins)
    poor = attrs.evolve(backend.info, name="poor", recipes=backend.info.recipes[-1:])
    both = Plugins([(BACKEND, backend), ("poor", TableBackend(info=poor, table=backend.table))])
    with pytest.raises(RequestError, match="needed: one of fp32\n  where:  stage prepare, backend poor"):
        recipe_of(both, Request(backends=(BACKEND, "poor"), recipe="int8_static"))


@pytest.mark.parametrize(
    ("options", "needed"),
    [((), "no option"), (("bits", "level"), "one of bits, level")],
    ids=["none", "some"],
)
def test_unknown_option_is_refused(plugins: Plugins, options: tuple[str, ...], needed: str) -> None:
    """The message lists the options of the backend, or that there is none."""
    backend = backend_of(plugins)
    other = TableBackend(info=attrs.evolve(backend.info, options=options), table=backend.table)
    asked = Request(backends=BACKEND, recipe="fp32", options={"bitz": 4})
    with pytest.raises(
        RequestError, match=f"the option 'bitz', which xnnpack_like does not have\n  needed: {needed}\n"
    ) as caught:
        recipe_of(Plugins([(BACKEND, other)]), asked)
    assert caught.value.value == "bitz"


def test_training_needs_a_backend_that_supports_it(plugins: Plugins) -> None:
    """``qat=True`` is refused by a backend that says it cannot."""
    backend = backend_of(plugins)
    other = TableBackend(info=attrs.evolve(backend.info, qat=False), table=backend.table)
    with pytest.raises(RequestError, match="needed: a backend that supports quantization-aware training"):
        recipe_of(Plugins([(BACKEND, other)]), Request(backends=BACKEND, recipe="int8_static", qat=True))


@pytest.mark.parametrize(
    ("train", "seen", "needed"),
    [
        (False, "a model captured for evaluation with qat=True", "a model captured for training"),
        (True, "a model captured for training with qat=False", "a model captured for evaluation"),
    ],
    ids=["evaluation", "training"],
)
def test_the_wrong_mode_is_refused(train: bool, seen: str, needed: str) -> None:
    """Batch norm has another form in training; neither can stand for the other."""
    captured = quanthost.capture(Net(), IMAGE, train=train)
    with untouched(captured.exported.graph_module), pytest.raises(RequestError) as caught:
        quanthost.prepare(captured, BACKEND, qat=not train)
    assert (
        str(caught.value)
        == f"""\
{seen}
  needed: {needed}
  where:  stage prepare
  to do:  call capture(..., train={not train}) first"""
    )


class Strict(TableBackend):
    """Refuses a graph for as many problems as it was told."""

    problems: tuple[str, ...] = ()

    @hookimpl
    def quanthost_validate(self, graph_module: Any, decisions: tuple[Decision, ...], request: Request) -> Any:
        nodes = [decision.node for decision in decisions]
        return [Problem(node=nodes[0], message=text, remedy="drop it") for text in self.problems]


@pytest.mark.parametrize(
    ("problems", "seen"), [(("bad",), "bad"), (("bad", "worse", "worst"), "bad (and 2 more)")]
)
def test_what_a_backend_does_not_accept(plugins: Plugins, problems: tuple[str, ...], seen: str) -> None:
    """The first problem is told, the others are counted; the captured program is as it was."""
    backend = backend_of(plugins)
    strict = Strict(info=backend.info, table=backend.table)
    strict.problems = problems
    captured = quanthost.capture(Net(), IMAGE)
    request = Request(backends=BACKEND, recipe="int8_static")
    with untouched(captured.exported.graph_module), pytest.raises(TableError) as caught:
        prepare(captured, Plugins([(BACKEND, strict)]), request)
    assert (
        str(caught.value)
        == f"""\
{seen}
  needed: a graph that the backend accepts
  where:  stage prepare, node conv2d
  to do:  drop it"""
    )


def test_the_captured_program_is_left_alone() -> None:
    """Graph, weights and buffers; preparing twice gives the same graph twice."""
    model = Net()
    captured = quanthost.capture(model, IMAGE)
    with untouched(model, captured.exported.graph_module):
        first, second = (quanthost.prepare(captured, BACKEND) for _ in range(2))
    assert str(first.module.graph) == str(second.module.graph)
    assert first.decisions == second.decisions
    assert torch.equal(captured.exported.module()(IMAGE), model(IMAGE))


def test_the_observed_graph_computes_what_the_model_does() -> None:
    """Folding, rewriting and observing change no value."""
    made = prepared()
    assert any(isinstance(part, RangeObserver) for part in made.module.modules())
    assert sqnr(Net()(IMAGE), made.module(IMAGE)) > 100


def test_each_call_node_has_one_decision_in_order() -> None:
    """Names are those of the captured graph."""
    made = prepared()
    assert [d.node for d in made.decisions] == [info.name for info in made.captured.nodes()]
    assert {d.delegated for d in made.decisions} == {None}


class Writes(nn.Module):
    """Two convolutions, between which a tensor is changed in place."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)
        self.change = change
        seeded(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.second(self.change(self.norm(self.first(x))))
        return made


def assign_slice(y: torch.Tensor) -> torch.Tensor:
    y[:, :2] = 0.5
    return y


def move_slice(y: torch.Tensor) -> torch.Tensor:
    y[:, :2] = y[:, 2:4]
    return y


def double_a_view(y: torch.Tensor) -> torch.Tensor:
    y.view(1, -1).mul_(2.0)
    return y


def read_a_view(y: torch.Tensor) -> torch.Tensor:
    flat = y.view(1, -1)
    F.relu_(y)
    return flat.view(1, 8, 6, 6)


def fill_an_empty_tensor(y: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(y)
    out[:, ::2] = y[:, 1::2]
    return out


def through_dropout(y: torch.Tensor) -> torch.Tensor:
    F.dropout(y, 0.5, training=False).permute(0, 2, 3, 1)[..., 0] = 1.0
    return y


def mask(y: torch.Tensor) -> torch.Tensor:
    y[y < -0.1] = -1.0
    return y


WRITES = [assign_slice, move_slice, double_a_view, read_a_view, fill_an_empty_tensor, through_dropout, mask]


@pytest.mark.parametrize("change", WRITES, ids=lambda change: change.__name__)
def test_writes_in_place_are_seen(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """A quantized copy of a tensor must not hide what is written into it, directly or through a view."""
    model = Writes(change)
    made = prepared(model, IMAGE)
    assert not [n for n in made.module.graph.nodes if str(n.target).split(".")[1:2] == ["copy_"]]
    module = quanthost.convert(quanthost.calibrate(made, images())).module
    assert sqnr(model(IMAGE), made.module(IMAGE)) > 100
    assert sqnr(model(IMAGE), module(IMAGE)) > (15 if change is mask else 30)


def test_the_norm_is_folded_where_writes_are_taken_out() -> None:
    """Taking a write out must not take batch norm apart, for which there is no pattern then."""
    made = prepared(Writes(assign_slice), IMAGE)
    verdicts = {d.operator: d.verdict for d in made.decisions}
    assert verdicts["aten.batch_norm.default"] is Verdict.FOLDED
    assert verdicts["aten.conv2d.default"] is Verdict.QUANTIZED


def test_writes_are_refused_where_the_model_is_trained() -> None:
    """Torch's training form keeps them; the message names the line."""
    captured = quanthost.capture(Writes(assign_slice), IMAGE, train=True)
    with pytest.raises(RequestError) as caught:
        quanthost.prepare(captured, BACKEND, qat=True)
    assert caught.value.seen == "aten.fill_.Tensor writes into a tensor that others read"
    assert "test_prepare.py:" in caught.value.where
    assert caught.value.where.endswith(
        "in forward: made: torch.Tensor = self.second(self.change(self.norm(self.first(x))))"
    )
    assert caught.value.needed == "a forward that makes new tensors, where it is trained"


class Twice(nn.Module):
    """A shared convolution, and a batch norm behind one of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.norm(self.layer(self.layer(x)))
        return made


def test_norms_that_cannot_be_trained_with_their_convolution_are_refused() -> None:
    """torchao would fold the norm into what the other call reads; calibrated, the two are told apart."""
    captured = quanthost.capture(Twice(), IMAGE, train=True)
    with pytest.raises(RequestError) as caught:
        quanthost.prepare(captured, BACKEND, qat=True)
    assert caught.value.seen == (
        "conv2d_1 with a batch norm behind it, which cannot be trained together: "
        "other operators read its weight"
    )
    assert caught.value.where.endswith(
        "in forward: made: torch.Tensor = self.norm(self.layer(self.layer(x)))"
    )
    assert caught.value.remedy == (
        "give each batch norm a convolution module of its own, or calibrate with qat=False"
    )
    assert caught.value.node == "conv2d_1"
    assert prepared(Twice().eval(), IMAGE).module is not None


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own, of run_decompositions
def test_writes_are_refused_in_a_graph_of_the_users(plugins: Plugins) -> None:
    """A quantizer has no inputs to trace with again; the remedy is one call, and it works."""
    program = torch.export.export(Writes(assign_slice), (IMAGE,))
    quantizer = HostQuantizer(plugins, Request(backends=BACKEND, recipe="int8_static"))
    with pytest.raises(RequestError) as caught:
        quantizer.transform_for_annotation(program.module())
    assert caught.value.remedy == "call run_decompositions({}) on the exported program before .module()"
    again = HostQuantizer(plugins, Request(backends=BACKEND, recipe="int8_static"))
    made = again.transform_for_annotation(program.run_decompositions({}).module())
    assert sqnr(Writes(assign_slice)(IMAGE), made(IMAGE)) > 100


def last(x: torch.Tensor) -> torch.Tensor:
    return x.to(memory_format=torch.channels_last)


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "to": lambda y: last(y),
    "contiguous": lambda y: y.contiguous(memory_format=torch.channels_last),
    "clone": lambda y: y.clone(memory_format=torch.channels_last),
    "and back": lambda y: last(y).contiguous(),
    "like": lambda y: y + torch.zeros_like(y, memory_format=torch.channels_last),
    "view of the order": lambda y: (
        last(y).permute(0, 2, 3, 1).view(1, -1, 8).transpose(1, 2).reshape(1, 8, 6, 6)
    ),
}


@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("given", [IMAGE, last(IMAGE)], ids=["contiguous input", "channels-last input"])
def test_orders_of_memory_are_left_out(
    change: Callable[[torch.Tensor], torch.Tensor], given: torch.Tensor
) -> None:
    """No operator asks for channels last, weights are contiguous, and values are the model's."""
    model = Writes(change).to(memory_format=torch.channels_last)
    with untouched(model):
        made = prepared(model, given)
    assert all(tensor.is_contiguous() for tensor in made.module.state_dict().values())
    assert not any("memory_format" in node.kwargs for node in made.module.graph.nodes)
    assert sqnr(model(given), made.module(given.contiguous())) > 100
    assert not model.first.weight.is_contiguous()


def test_conversions_of_dtype_stay() -> None:
    """Only the memory format of a call goes, not what else it does."""

    class Converts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to(torch.float64, memory_format=torch.channels_last) * 2

    made = prepared(Converts(), IMAGE)
    assert made.module(IMAGE).dtype == torch.float64
    assert made.module(IMAGE).is_contiguous()
