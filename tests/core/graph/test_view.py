"""Constants, shapes and quantize nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sample_graphs import IMAGE, ROW, graph_of, node_of, program_of
from torch import nn

from quanthost.graph.view import GraphView, constant, is_dequantize, is_quantize, storage, tensor_meta


class Stateful(nn.Module):  # type: ignore[misc]  # torch is not typed
    """A linear layer whose result is added to a table, and a count of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("table", torch.full((4,), 5.0))
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count[1:].add_(1)
        return self.linear(x) + self.table * self.count.sum() + torch.tensor([1.0, 2.0, 3.0, 4.0])


@pytest.fixture(params=["lifted", "attributes"])
def view(request: pytest.FixtureRequest) -> GraphView:
    """The same program with its weights as lifted inputs, and as attributes of a module."""
    program = program_of(Stateful(), ROW)
    if request.param == "lifted":
        return GraphView(program.graph_module, program)
    return GraphView(program.module(check_guards=False))


def test_constants(view: GraphView) -> None:
    """Weights, untouched buffers and lifted constants are constant; inputs and written buffers are not."""
    leaves = [node for node in view.graph_module.graph.nodes if node.op in ("placeholder", "get_attr")]
    assert {node.name.removeprefix("b_") for node in leaves if not view.is_constant(node)} == {"count", "x"}
    assert len(leaves) == 6


def test_value_of_a_constant(view: GraphView) -> None:
    """A constant's tensor can be read in both forms."""
    values = [view.constant(node) for node in view.graph_module.graph.nodes if view.is_constant(node)]
    for wanted in (torch.full((4,), 5.0), torch.arange(1.0, 5.0)):
        assert any(value is not None and torch.equal(value, wanted) for value in values)


def test_what_is_no_constant() -> None:
    """A computed tensor, a user input and what is no node at all have no constant."""
    module = graph_of(Stateful(), ROW)
    view = GraphView(module)
    linear = node_of(module, "linear")
    assert not view.is_constant(linear)
    assert not view.is_constant(linear.args[0])
    assert not view.is_constant(None)
    assert view.constant(linear) is None
    assert constant(module, linear) is None
    assert constant(module, 3) is None
    assert constant(module, linear.args[1]) is module.get_parameter("linear.weight")


def test_buffer_that_is_copied_back() -> None:
    """After decomposition a written buffer is a result of the graph; it is no constant either."""
    program = program_of(Stateful(), ROW).run_decompositions({})
    view = GraphView(program.graph_module, program)
    held = {node.name: view.is_constant(node) for node in program.graph.nodes if node.op == "placeholder"}
    assert {name for name, is_constant in held.items() if not is_constant} == {"b_count", "x"}


def named(name: str) -> Callable[..., Any]:
    """A function of a quantized operator's name: those operators are registered by the toolchain."""

    def function(*args: Any) -> Any:
        return args[0]

    function.__name__ = name
    return function


@pytest.mark.parametrize("namespace", ["quantized_decomposed", "torchao"])
def test_quantize_and_dequantize(namespace: str) -> None:
    """Both namespaces count, and constants stay constants behind them."""
    module = graph_of(nn.Linear(4, 4), ROW)
    linear = node_of(module, "linear")
    with module.graph.inserting_before(linear):
        quantize = module.graph.call_function(
            named(f"{namespace}.quantize_affine.default"), (linear.args[1],)
        )
        dequantize = module.graph.call_function(named(f"{namespace}.dequantize_affine.default"), (quantize,))
    view = GraphView(module)
    assert (is_quantize(quantize), is_dequantize(quantize)) == (True, False)
    assert (is_quantize(dequantize), is_dequantize(dequantize)) == (False, True)
    assert view.is_constant(dequantize)
    assert not is_quantize(linear)
    assert not is_dequantize(linear.args[0])
    assert not is_dequantize(None)


def test_tensor_meta() -> None:
    """A node has the fake tensor of its result; several results, or a number, have none."""
    module = graph_of(lambda x: (x.split(2, 1)[0] * x.shape[0], x), IMAGE[:, :2], dynamic=({2: DYNAMIC},))
    assert tensor_meta(node_of(module, "split")) is None
    product = tensor_meta(node_of(module, "mul"))
    assert product is not None
    assert (product.dtype, product.shape[:2]) == (torch.float32, (1, 2))


DYNAMIC = torch.export.Dim("side", min=2, max=64)


def test_storage_is_that_of_the_base() -> None:
    """A view lies in its base's memory, a copy does not."""
    module = graph_of(lambda x: (x.view(-1), x.reshape(-1), x.mul(2)), ROW)
    (x,) = module.graph.find_nodes(op="placeholder")
    assert storage(node_of(module, "view")) == storage(x)
    assert storage(node_of(module, "mul")) != storage(x)


def test_order() -> None:
    """Positions grow along the graph."""
    module = graph_of(lambda x: x.relu().tanh(), ROW)
    order = GraphView(module).order
    assert order[node_of(module, "relu")] < order[node_of(module, "tanh")]
    assert sorted(order.values()) == list(range(len(module.graph.nodes)))
