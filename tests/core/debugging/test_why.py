"""``why``: what it tells of an operator, in both graphs, agrees with what the stages did."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F
from flow_nets import BACKEND, images, seeded
from torch import nn

import quanthost
from quanthost import inspection
from quanthost.api import Op, QSpecChoice, Refusal, TableBackend, hookimpl
from quanthost.debugging import why as stage
from quanthost.errors import RequestError, UnknownBackendError
from quanthost.hooks.manager import Plugins
from quanthost.host.requests import resolve
from quanthost.host.target import Target
from quanthost.values import Cause, Override, Request, Verdict, from_json, to_json
from quanthost.values.explanation import Explanation, Outcome, RowAttempt, Search, Why

IMAGE = images(1)[0]


class Net(nn.Module):
    """Fused, decomposed, refused by a constraint, dropped by cost, folded, and without a row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.wide, self.head = nn.Conv2d(4, 4, 3, groups=2), nn.Linear(4, 4)
        seeded(self)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = F.relu(self.norm(self.stem(x)))
        y = self.wide(y).sigmoid().mean((2, 3))
        scores = self.head(y)
        return F.gelu(scores, approximate="tanh"), torch.cumsum(scores, 1), torch.sin(x + x)


@pytest.fixture(scope="module")
def captured() -> quanthost.stages.capturing.capture.CapturedModel:
    return quanthost.capture(Net(), (IMAGE,))


@pytest.fixture(scope="module")
def all_of_it(captured: Any) -> dict[str, Why]:
    """Every node, explained in one go."""
    found = inspection.why(captured, "*", BACKEND)
    assert found.lowered
    assert found.note == ""
    return {why.decision.node: why for why in found.operators}


def attempt(search: Search, row: str) -> RowAttempt:
    (found,) = (each for each in search.attempts if each.row == row)
    return found


def taken(search: Search) -> list[str]:
    return [each.row for each in search.attempts if each.outcome is Outcome.TAKEN]


def test_it_has_the_decisions_of_the_program(captured: Any, all_of_it: dict[str, Why]) -> None:
    """Each decision is the one that the stages make, with where lowering put the node."""
    program = quanthost.lower(quanthost.convert(quanthost.calibrate(
        quanthost.prepare(captured, BACKEND), [IMAGE])))  # fmt: skip
    assert [why.decision for why in all_of_it.values()] == list(program.decisions)


def test_the_row_that_was_taken_is_the_row_of_the_decision(all_of_it: dict[str, Why]) -> None:
    """In the captured graph; and where the edge graph has it taken, it lies in a partition."""
    for why in all_of_it.values():
        rows = [row for search in why.captured for row in taken(search)]
        quantized = why.decision.verdict is Verdict.QUANTIZED and why.decision.cause is Cause.ROW
        assert (why.decision.row in rows) == quantized, why.decision.node
        assert bool(rows) == quantized, why.decision.node
        for search in why.edge:
            assert bool(taken(search)) == (search.partition is not None), search


def test_a_fused_operator(all_of_it: dict[str, Why]) -> None:
    """The decomposed operator of the edge graph is found by the same row; what is taken is not tried on."""
    [before], [after] = all_of_it["relu"].captured, all_of_it["relu"].edge
    assert attempt(before, "conv_relu").nodes == ("conv2d", "relu")
    assert attempt(before, "relu").found == "row conv_relu has conv2d, relu"
    assert attempt(after, "conv_relu").nodes == ("convolution", "relu")
    assert (after.partition, after.recipe, before.recipe) == ("xnnpack_like_0", None, "int8_static")
    assert {each.kernel.value for each in after.attempts} == {"static"}


def test_a_constraint_of_the_edge_graph(all_of_it: dict[str, Why]) -> None:
    """Quantized nowhere by cost; the float kernel of the delegate refused, with its reason."""
    [before], [after] = all_of_it["gelu"].captured, all_of_it["gelu"].edge
    dropped = attempt(before, "gelu")
    assert dropped.outcome is Outcome.DROPPED
    assert dropped.found.startswith("left in float: no neighbouring operator uses ")
    static, in_float = after.attempts
    assert (static.expected, in_float.expected) == (
        "a static kernel's quantize and dequantize around it", "the exact form",
    )  # fmt: skip
    assert in_float.found == "it is approximated by tanh"
    assert dict(in_float.facts)["gelu.approximate"] == "tanh"


def test_no_row_and_folded(all_of_it: dict[str, Why]) -> None:
    """Rows that cannot concern an operator are counted; what is folded has no search."""
    (search,) = all_of_it["cumsum"].captured
    table = resolve(Target(backend=BACKEND))[0].plugin(BACKEND).table  # type: ignore[attr-defined]
    assert (search.attempts, search.others) == ((), len(table.rows))
    assert all_of_it["batch_norm"].captured == ()
    assert all_of_it["batch_norm"].edge == ()


def test_round_trip(captured: Any) -> None:
    """The record is JSON and back."""
    found = inspection.why(captured, "conv2d", BACKEND, lowered=False)
    assert found.operators
    assert from_json(Explanation, to_json(found)) == found
    assert (found.lowered, found.note, found.operators[0].edge) == (False, "", ())


def test_overrides_close_nodes_and_change_recipes(captured: Any) -> None:
    """Each says which override it was."""
    kept = Override(module_name="stem", keep_float=True)
    found = inspection.why(captured, "relu", BACKEND, overrides=[kept], lowered=False)
    (search,) = found.operators[0].captured
    assert attempt(search, "conv_relu").outcome is Outcome.CLOSED
    assert attempt(search, "conv_relu").found == f"conv2d: kept in float by {kept}"

    dynamic = Override(module_name="head", recipe="int8_dynamic")
    found = inspection.why(captured, "head", BACKEND, overrides=[dynamic], lowered=False)
    (search,) = found.operators[0].captured
    assert (search.recipe, taken(search)) == ("int8_dynamic", ["linear"])


def test_a_row_across_two_recipes(captured: Any) -> None:
    """A pattern whose operators have different recipes is closed, and says by which override."""
    other = Override(node="relu", recipe="int8_dynamic")
    found = inspection.why(captured, "conv2d", BACKEND, overrides=[other], lowered=False)
    (search,) = found.operators[0].captured
    assert attempt(search, "conv_relu").found == f"relu: its recipe is int8_dynamic, by {other}"
    assert taken(search) == ["conv"]
    (search,) = (
        inspection.why(captured, "relu", BACKEND, overrides=[other], lowered=False).operators[0].captured
    )
    assert attempt(search, "conv_relu").found == "conv2d: its recipe is int8_static"


def test_a_backend_of_higher_priority(captured: Any) -> None:
    """The second backend finds the node taken, by which row of whom."""
    found = inspection.why(captured, "conv2d", ["int8_reference", BACKEND], lowered=False)
    first, second = found.operators[0].captured
    assert (first.backend, taken(first)) == ("int8_reference", ["conv_relu"])
    assert attempt(second, "conv").outcome is Outcome.CLOSED
    assert attempt(second, "conv").found == "conv2d: row conv_relu of int8_reference has it"


def test_without_a_delegate_no_partitioner_is_asked(captured: Any) -> None:
    """The decision says who runs it."""
    (why,) = inspection.why(captured, "conv2d", "int8_reference").operators
    assert why.edge == ()
    assert str(why.decision.placement).startswith("the runtime's own kernels run")


def test_a_refusal_of_qspecs_is_told(captured: Any) -> None:
    """A match that a hook would give no qspecs is dropped with the hook's reason."""

    class Refusing(TableBackend):
        @hookimpl
        def quanthost_choose_qspecs(self, match: Any, request: Any) -> QSpecChoice | Refusal:
            return Refusal(reason="not today")

    known = resolve(Target(backend=BACKEND))[0].plugin(BACKEND)
    assert isinstance(known, TableBackend)
    backend = Refusing(info=known.info, table=known.table)
    plugins = Plugins([(BACKEND, backend)])
    request = Request(backends=plugins.backends, recipe="int8_static")
    (why,) = stage.explain(captured, plugins, request, "linear", lowered=False).operators
    assert attempt(why.captured[0], "linear").outcome is Outcome.DROPPED
    assert attempt(why.captured[0], "linear").found == "not today"


def test_hooks_without_a_table(captured: Any) -> None:
    """A backend whose own code annotates is not guessed at."""

    class Own:
        def __init__(self, backend: TableBackend) -> None:
            self.inner = backend

        @hookimpl
        def quanthost_backend_info(self) -> Any:
            return self.inner.info

        @hookimpl
        def quanthost_annotate(self) -> Any:
            return []

    known = resolve(Target(backend=BACKEND))[0].plugin(BACKEND)
    assert isinstance(known, TableBackend)
    plugins = Plugins([(BACKEND, Own(known))])
    request = Request(backends=plugins.backends, recipe="int8_static")
    (why,) = stage.explain(captured, plugins, request, "linear", lowered=False).operators
    assert [(s.attempts, s.note) for s in why.captured] == [((), "it has no support table: its hooks decide")]


def test_what_cannot_be_lowered_is_explained_all_the_same(captured: Any) -> None:
    """The captured graph is answered for, and the note says what stopped the rest."""

    class Broken(TableBackend):
        @hookimpl
        def quanthost_create_partitioners(self, request: Any) -> Any:
            raise RequestError("no tools here", needed="the tools", remedy="install them")

    known = resolve(Target(backend=BACKEND))[0].plugin(BACKEND)
    assert isinstance(known, TableBackend)
    plugins = Plugins([(BACKEND, Broken(info=known.info, table=known.table, rewrites=known.rewrites))])
    request = Request(backends=plugins.backends, recipe="int8_static")
    found = stage.explain(captured, plugins, request, "linear")
    assert (found.lowered, found.note) == (False, "not lowered: no tools here")
    assert taken(found.operators[0].captured[0]) == ["linear"]


@pytest.mark.parametrize(
    ("selector", "nodes"),
    [
        ("conv2d_1", ["conv2d_1"]),
        ("conv2d", ["conv2d"]),
        ("aten.conv2d", ["conv2d", "conv2d_1"]),
        ("aten.conv2d.default", ["conv2d", "conv2d_1"]),
        ("stem", ["conv2d"]),
        ("[wh]*", ["conv2d_1", "linear"]),
    ],
)
def test_what_a_selector_means(captured: Any, selector: str, nodes: list[str]) -> None:
    """A node's name first, then an operator, then a module."""
    assert [node.name for node in stage.select_nodes(selector, captured.nodes())] == nodes


def test_an_unknown_selector_has_near_names(captured: Any) -> None:
    """And the nodes that there are."""
    with pytest.raises(RequestError, match="'gleu', which is no node, operator or module") as caught:
        inspection.why(captured, "gleu", BACKEND)
    assert caught.value.remedy == "ask for 'gelu'"
    assert "nodes: conv2d, batch_norm, relu" in caught.value.needed


def test_a_model_is_captured_on_the_way() -> None:
    """With inputs by position and by name; ranges of the lowering come from these."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.layer(x) + y
            return made

    found = inspection.why(
        Two().eval(), "linear", BACKEND, inputs=(torch.ones(1, 4),), kwargs={"y": torch.ones(4)}
    )
    assert (found.lowered, found.note) == (True, "")
    with pytest.raises(UnknownBackendError):
        inspection.why(Two(), "linear", "nowhere")


def test_the_graph_of_the_model_stays_as_it_is(captured: Any) -> None:
    """Explaining changes nothing of what it explains."""
    before = str(captured.exported)
    inspection.why(captured, "linear", BACKEND)
    assert str(captured.exported) == before


def test_a_row_may_be_tried_at_several_places() -> None:
    """An operator that two others read is tried with each."""

    class Fan(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = x + x
            return torch.relu(y), F.hardtanh(y)

    known = resolve(Target(backend=BACKEND))[0].plugin(BACKEND)
    assert isinstance(known, TableBackend)
    found = inspection.why(quanthost.capture(Fan(), (IMAGE,)), "add", BACKEND, lowered=False)
    (search,) = found.operators[0].captured
    assert attempt(search, "add_relu").found == "add with 2 uses"
    assert attempt(search, "add_hardtanh").found == "add with 2 uses"
    assert attrs.evolve(search, attempts=()).others == len(known.table.rows) - 3
    assert isinstance(known.table.row("add_relu").pattern, Op)
