"""Rewriting keeps what tracing knows; functional graphs give what eager execution gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sample_graphs import IMAGE, ROW, graph_of, node_of, nodes_of
from torch import fx, nn

from quanthost.graph.operators import operator_name
from quanthost.graph.rewrite import ORIGIN, Rewriter, functionalize, origin, tag_origins

ATEN = torch.ops.aten


def test_origin_is_the_name_at_tagging() -> None:
    """Each call has its name in its custom metadata, beside what was there; the first tagging stays."""
    module = graph_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), ROW)
    linear, relu = node_of(module, "linear"), node_of(module, "relu")
    relu.meta["custom"] = {"mine": 1}
    tag_origins(module)
    relu.name = "other"
    tag_origins(module)
    assert (origin(linear), origin(relu)) == ("linear", "relu")
    assert relu.meta["custom"] == {"mine": 1, ORIGIN: "relu"}
    assert all(origin(node) is None for node in module.graph.nodes if node.op != "call_function")


def test_tagging_touches_no_shared_dictionary() -> None:
    """Nodes that share one metadata dictionary get origins of their own."""
    module = graph_of(lambda x: x.relu().tanh(), ROW)
    shared: dict[str, Any] = {}
    for node in module.graph.nodes:
        node.meta["custom"] = shared
    tag_origins(module)
    assert (origin(node_of(module, "relu")), origin(node_of(module, "tanh"))) == ("relu", "tanh")
    assert shared == {}


def test_call_keeps_metadata_and_computes_a_fake_value() -> None:
    """A new node has the replaced one's origin, module and source, and a fake tensor of its own result."""
    module = graph_of(nn.Sequential(nn.Hardswish(), nn.ReLU()), ROW)
    tag_origins(module)
    swish = node_of(module, "hardswish")
    (x,) = swish.args
    rewriter = Rewriter(module, swish)
    wide = rewriter.call(ATEN.add.Tensor, x, 3.0)
    row = rewriter.call(ATEN.sum.dim_IntList, wide, [0], keepdim=True)
    for made in (wide, row):
        assert origin(made) == "hardswish"
        for key in ("nn_module_stack", "stack_trace"):
            assert made.meta[key] == swish.meta[key]
    assert wide.meta["val"].shape == (2, 4)
    assert row.meta["val"].shape == (1, 4)
    assert row.meta["val"].fake_mode is swish.meta["val"].fake_mode
    rewriter.replace_with(row)
    module.recompile()
    assert nodes_of(module, "hardswish") == []
    torch.testing.assert_close(module(ROW), ((ROW + 3).sum(0, keepdim=True).relu()))


def test_call_with_lists_and_several_results() -> None:
    """Nodes inside lists are read, and the fake value of several results is a tuple."""
    module = graph_of(lambda x: x.relu(), ROW)
    relu = node_of(module, "relu")
    rewriter = Rewriter(module, relu)
    stacked = rewriter.call(ATEN.cat.default, [relu.args[0], relu.args[0]], 1)
    parts = rewriter.call(ATEN.split.Tensor, stacked, 3, 1)
    assert stacked.meta["val"].shape == (2, 8)
    assert [part.shape for part in parts.meta["val"]] == [(2, 3), (2, 3), (2, 2)]


def test_call_with_dynamic_shapes() -> None:
    """Sizes that are symbols stay symbols, of the same range."""
    rows = torch.export.Dim("rows", min=2, max=64)
    module = graph_of(lambda x: x.relu(), ROW, dynamic=({0: rows},))
    relu = node_of(module, "relu")
    made = Rewriter(module, relu).call(ATEN.add.Tensor, relu.args[0], relu.args[0])
    assert str(made.meta["val"].shape[0]) == str(relu.meta["val"].shape[0])
    assert isinstance(made.meta["val"].shape[0], torch.SymInt)


def test_call_where_tracing_left_nothing() -> None:
    """Without fake tensors there is no fake value, and no error."""
    graph = fx.Graph()
    relu = graph.call_function(ATEN.relu.default, (graph.placeholder("x"),))
    graph.output(relu)
    module = fx.GraphModule(nn.Module(), graph)
    made = Rewriter(module, relu).call(ATEN.tanh.default, relu.args[0])
    assert "val" not in made.meta


def test_constant_has_a_free_name_and_a_fake_value() -> None:
    """Constants are buffers; a name that is taken gets a number."""
    module = graph_of(lambda x: x.split(1)[0], ROW)
    split = node_of(module, "split")
    rewriter = Rewriter(module, split)
    names = [rewriter.constant(torch.full((4,), float(i)), "offset") for i in range(3)]
    assert [node.target for node in names] == ["offset", "offset_1", "offset_2"]
    assert [float(module.get_buffer(str(node.target))[0]) for node in names] == [0, 1, 2]
    made = rewriter.call(ATEN.add.Tensor, split.args[0], names[2])
    assert made.meta["val"].shape == (2, 4)
    rewriter.replace_with(rewriter.call(ATEN.split.Tensor, made, 1))
    module.recompile()
    torch.testing.assert_close(module(ROW), ROW[:1] + 2)


def in_place(module: fx.GraphModule) -> list[str]:
    """Operators that still work in place."""
    calls = [operator_name(node) for node in module.graph.nodes if node.op == "call_function"]
    return [name for name in calls if name.split(".")[1:] and name.split(".")[1].endswith("_")]


def read_again(x: torch.Tensor) -> Any:
    y = x * 2
    z = y.relu_()
    return y + z, y


def read_before(x: torch.Tensor) -> Any:
    y = x * 2
    before = y.sigmoid()
    y.relu_()
    return before, y


def chain(x: torch.Tensor) -> Any:
    y = x * 2
    return y.relu_().add_(1).mul_(y), y


def chain_read_in_between(x: torch.Tensor) -> Any:
    y = x * 2
    first = y.add_(1)
    middle = y.tanh()
    second = first.sub_(middle)
    return y, first, second, middle


def scalars_and_alpha(x: torch.Tensor) -> Any:
    y = x * 2
    y.add_(3)
    y.add_(x, alpha=2)
    y.sub_(1, alpha=4)
    y.div_(3, rounding_mode="floor")
    return y


def masked(x: torch.Tensor) -> Any:
    y = x * 2
    y.masked_fill_(x > 0, -1.0)
    y.clamp_(-1, 1)
    return y


def reads_itself(x: torch.Tensor) -> Any:
    y = x * 2
    y.mul_(y)
    y.add_(y.sum())
    return y


def view_read_before(x: torch.Tensor) -> Any:
    y = x * 2
    total = y.view(-1).sum()
    y.relu_()
    return total, y


def view_taken_after(x: torch.Tensor) -> Any:
    y = x * 2
    y.relu_()
    return y.view(-1), y


def idle_dropout_of_a_view(x: torch.Tensor) -> Any:
    return F.dropout(x.reshape(-1), training=False, inplace=True) * 2, x + 1


def after_dropout(x: torch.Tensor) -> Any:
    y = F.dropout(x * 2, training=False)
    y.relu_()
    return y


def same_dtype(x: torch.Tensor) -> Any:
    y = torch.ones_like(x, dtype=torch.int64)
    y.add_(x.to(torch.int32))
    return y


def overwritten(x: torch.Tensor) -> Any:
    y = x * 2
    y.copy_(x[0])
    z = x * 3
    z.zero_()
    return y, z


@pytest.mark.parametrize(
    "function",
    [
        read_again, read_before, chain, chain_read_in_between, scalars_and_alpha, masked, reads_itself,
        view_read_before, view_taken_after, after_dropout, same_dtype, overwritten,
        idle_dropout_of_a_view,
    ],
)  # fmt: skip
def test_functional_twin(function: Callable[[torch.Tensor], Any]) -> None:
    """Nothing works in place any more, and the outputs are those of eager execution."""
    module = graph_of(function, ROW)
    assert in_place(module) != []
    functionalize(module)
    module.graph.lint()
    assert in_place(module) == []
    torch.testing.assert_close(module(ROW.clone()), function(ROW.clone()), rtol=0, atol=0)


def view_changed(x: torch.Tensor) -> Any:
    y = x * 2
    y.view(-1).relu_()
    return y


def view_of_an_in_place_result(x: torch.Tensor) -> Any:
    y = x * 2
    v = y.relu_()[0]
    v.add_(1)
    return y, v


def view_read_later(x: torch.Tensor) -> Any:
    y = x * 2
    v = y.view(-1)
    y.relu_()
    return v, y


def part_read_later(x: torch.Tensor) -> Any:
    y = x * 2
    first, _ = y.split(1)
    y.relu_()
    return torch.cat([first, y])


def dropout_read_later(x: torch.Tensor) -> Any:
    y = x * 2
    z = F.dropout(y, training=False)
    y.relu_()
    return z


def wider_operand(x: torch.Tensor) -> Any:
    y = x.half() * 2
    y.add_(x)
    return y


def input_changed(x: torch.Tensor) -> Any:
    x.relu_()
    return x + 1


def input_changed_through_dropout(x: torch.Tensor) -> Any:
    return F.dropout(x, training=False).relu_() + 1


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (view_changed, ["aten.relu_.default"]),
        (view_of_an_in_place_result, ["aten.add_.Tensor"]),
        (view_read_later, ["aten.relu_.default"]),
        (part_read_later, ["aten.relu_.default"]),
        (dropout_read_later, ["aten.relu_.default"]),
        (wider_operand, ["aten.add_.Tensor"]),
        (input_changed, ["aten.relu_.default"]),
        (input_changed_through_dropout, ["aten.relu_.default"]),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_left_in_place(function: Callable[[torch.Tensor], Any], left: list[str]) -> None:
    """What is seen through other memory, or would have another dtype, stays; outputs are eager's."""
    module = graph_of(function, ROW)
    functionalize(module)
    module.graph.lint()
    assert in_place(module) == left
    given, expected = ROW.clone(), ROW.clone()
    torch.testing.assert_close(module(given), function(expected), rtol=0, atol=0)
    assert torch.equal(given, expected)


class Counter(nn.Module):  # type: ignore[misc]  # torch is not typed
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return x * self.count


def test_state_stays_state() -> None:
    """A buffer that counts calls goes on counting."""
    module = graph_of(Counter(), ROW)
    functionalize(module)
    assert in_place(module) == ["aten.add_.Tensor"]
    assert [float(module(torch.ones(2, 4))[0, 0]) for _ in range(3)] == [1, 2, 3]


def test_residual_block_in_place() -> None:
    """The usual block: activations in place, and an addition in place to the block's result."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1))

    def block(x: torch.Tensor) -> torch.Tensor:
        y = model(x)
        y += x
        return F.relu(y, inplace=True)

    model.eval()
    module = graph_of(block, IMAGE)
    functionalize(module)
    assert in_place(module) == []
    with torch.no_grad():
        torch.testing.assert_close(module(IMAGE), block(IMAGE), rtol=0, atol=0)


def test_names_and_metadata_stay() -> None:
    """A node keeps the name that overrides and decisions use, and what tracing left on it."""
    module = graph_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), ROW)
    (node,) = nodes_of(module, "relu_")
    meta = dict(node.meta)
    functionalize(module)
    assert node.target is ATEN.relu.default
    assert (node.name, node.meta) == ("relu_", meta)


def test_operators_of_other_namespaces_stay() -> None:
    """An operator of somebody's library is no aten operator, whatever its name."""
    library = torch.library.Library("quanthost_tests", "DEF")
    library.define("relu_(Tensor(a!) self) -> Tensor(a!)")
    graph = fx.Graph()
    made = graph.call_function(ATEN.tanh.default, (graph.placeholder("x"),))
    custom = graph.call_function(torch.ops.quanthost_tests.relu_.default, (made,))
    graph.output(custom)
    functionalize(fx.GraphModule(nn.Module(), graph))
    assert custom.target is torch.ops.quanthost_tests.relu_.default


def test_graph_without_fake_tensors() -> None:
    """Where tracing left no memory to compare, the schemas alone tell views from results."""
    graph = fx.Graph()
    made = graph.call_function(ATEN.tanh.default, (graph.placeholder("x"),))
    changed = graph.call_function(ATEN.relu_.default, (made,))
    graph.output((made, changed))
    module = fx.GraphModule(nn.Module(), graph)
    functionalize(module)
    assert changed.target is ATEN.relu.default
    assert graph.output_node().args[0] == (changed, changed)
