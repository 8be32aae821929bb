"""Patterns: what holds, what is captured, and where a pattern that does not hold stopped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sample_graphs import IMAGE, ROW, graph_of, node_of, nodes_of
from torch import fx, nn

from quanthost.errors import TableError
from quanthost.graph.pattern import Binding, Mismatch, bind, op

CONV = op("conv2d", input="input", weight="weight", bias="bias?")
SWISH = op("mul.Tensor", self="input", other=op("sigmoid", self="input"), commutative=True)


def bound(pattern: Any, node: fx.Node) -> Binding:
    """The binding, where the pattern has to hold."""
    found = bind(pattern, node)
    assert isinstance(found, Binding), found
    return found


def stopped(pattern: Any, node: fx.Node) -> tuple[int, str, str]:
    """Where the pattern stopped, where it must not hold."""
    found = bind(pattern, node)
    assert isinstance(found, Mismatch), found
    return found.depth, found.found, found.expected


def test_one_operator() -> None:
    """Captures have the nodes of the arguments, by the pattern's names."""
    module = graph_of(nn.Conv2d(3, 4, 1), IMAGE)
    conv = node_of(module, "conv2d")
    found = bound(CONV, conv)
    assert found.nodes == (conv,)
    assert found.captures == dict(zip(("input", "weight", "bias"), conv.args))


def test_absent_optional_capture() -> None:
    """A capture marked ``?`` may be absent, one without the mark may not."""
    conv = node_of(graph_of(nn.Conv2d(3, 4, 1, bias=False), IMAGE), "conv2d")
    assert bound(CONV, conv).captures["bias"] is None
    strict = op("conv2d", input="input", weight="weight", bias="bias")
    assert stopped(strict, conv) == (1, "None", "a tensor for bias")


def test_nested_operators() -> None:
    """Inner operators come before the output, with their captures."""
    module = graph_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.MaxPool2d(2)), IMAGE)
    pattern = op("max_pool2d", self=op("relu", "relu_", self=CONV))
    found = bound(pattern, node_of(module, "max_pool2d"))
    assert [node.name for node in found.nodes] == ["conv2d", "relu", "max_pool2d"]
    assert list(found.captures) == ["input", "weight", "bias"]
    assert (pattern.size, pattern.captures()) == (3, ("input", "weight", "bias"))
    assert str(pattern) == "max_pool2d(relu|relu_(conv2d(input, weight, bias?)))"


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x.relu() + y,
        lambda x, y: y + x.relu(),
    ],
    ids=["inner_first", "inner_second"],
)
def test_commutative_operands(function: Any) -> None:
    """The inner operator may stand on either side; without ``commutative`` only where it was written."""
    module = graph_of(function, ROW, ROW)
    add, relu = node_of(module, "add"), node_of(module, "relu")
    x, y = module.graph.find_nodes(op="placeholder")
    found = bound(op("add.Tensor", self=op("relu", self="input"), other="other", commutative=True), add)
    assert found.nodes == (relu, add)
    assert found.captures == {"input": x, "other": y}
    fixed = bind(op("add.Tensor", self=op("relu", self="input"), other="other"), add)
    assert isinstance(fixed, Binding) == (add.args[0] is relu)


def test_order_of_inner_operands_follows_the_outer_ones() -> None:
    """An inner order that holds by itself is given up where the rest of the pattern needs the other."""
    module = graph_of(lambda x, y: (y + x) * x, ROW, ROW)
    x, y = module.graph.find_nodes(op="placeholder")
    inner = op("add.Tensor", self="twice", other="once", commutative=True)
    pattern = op("mul.Tensor", self=inner, other="twice", commutative=True)
    assert bound(pattern, node_of(module, "mul")).captures == {"twice": x, "once": y}


def test_more_than_two_operands_with_two_that_commute() -> None:
    """Only the first two operands change places; the rest holds as it stands."""
    module = graph_of(lambda x, y: torch.add(x, y.relu(), alpha=2), ROW, ROW)
    add = node_of(module, "add")
    inner = op("relu", self="input")
    assert bound(op("add.Tensor", self=inner, other="other", alpha=2, commutative=True), add)
    refused = op("add.Tensor", self="other", other=inner, alpha=1, commutative=True)
    assert stopped(refused, add) == (1, "2", "the number 1")


def test_same_capture_twice() -> None:
    """A capture that the pattern names twice is one tensor."""
    holds = graph_of(lambda x, y: (x.sigmoid() * x, y), ROW, ROW)
    assert bound(SWISH, node_of(holds, "mul")).captures == {
        "input": holds.graph.find_nodes(op="placeholder")[0]
    }
    other = graph_of(lambda x, y: y * x.sigmoid(), ROW, ROW)
    assert stopped(SWISH, node_of(other, "mul")) == (2, "inputs_0", "input to be inputs_1")


def test_list_operand() -> None:
    """A capture marked ``*`` takes the tensors of a list, and no single tensor."""
    module = graph_of(lambda x, y: torch.cat([x, y, x.relu()]), ROW, ROW)
    cat = node_of(module, "cat")
    found = bound(op("cat", tensors="inputs*"), cat)
    assert list(found.captures["inputs"]) == list(cat.args[0])
    assert stopped(op("cat", tensors="inputs"), cat)[2] == "a tensor for inputs"
    assert stopped(op("relu", self="inputs*"), node_of(module, "relu"))[2] == "a tensor for inputs"


def test_list_captured_twice() -> None:
    """Two lists of the same tensors are one capture, whatever objects hold them."""
    module = graph_of(lambda x, y: torch.cat([x, y]) + torch.cat([x, y]), ROW, ROW)
    pattern = op("add.Tensor", self=op("cat", tensors="inputs*"), other=op("cat", tensors="inputs*"))
    assert len(bound(pattern, node_of(module, "add")).nodes) == 3
    module = graph_of(lambda x, y: torch.cat([x, y]) + torch.cat([y, x]), ROW, ROW)
    assert stopped(pattern, node_of(module, "add"))[2].startswith("inputs to be")


def test_nested_operator_in_front_of_a_list() -> None:
    """Captures of a list and of its neighbours are bound side by side."""
    module = graph_of(lambda x, y: torch.cat([x, y], 1).relu(), ROW, ROW)
    found = bound(op("relu", self=op("cat", tensors="inputs*", dim=1)), node_of(module, "relu"))
    assert [node.name for node in found.captures["inputs"]] == ["inputs_0", "inputs_1"]


@pytest.mark.parametrize(
    ("number", "holds"), [(3, True), (3.0, True), (4, False), (0, False)], ids=lambda part: str(part)
)
def test_number(number: float, holds: bool) -> None:
    """A number stands for itself, as an int or as a float."""
    add = node_of(graph_of(lambda x: x + 3, ROW), "add")
    assert isinstance(bind(op("add.Tensor", self="input", other=number), add), Binding) is holds


def test_number_is_no_capture() -> None:
    """A capture is a tensor: neither a number nor a size is one."""
    add = node_of(graph_of(lambda x: x + 3, ROW), "add")
    assert stopped(op("add.Tensor", self="input", other="other"), add) == (1, "3", "a tensor for other")
    rows = torch.export.Dim("rows", min=2, max=64)
    mul = node_of(graph_of(lambda x: x * x.shape[0], ROW, dynamic=({0: rows},)), "mul")
    assert isinstance(mul.args[1], fx.Node)
    assert stopped(op("mul.Tensor", self="input", other="other"), mul)[2] == "a tensor for other"


def test_default_of_the_schema_counts() -> None:
    """A number that the call leaves out is compared with the schema's default."""
    add = node_of(graph_of(lambda x: x + x, ROW), "add")
    assert isinstance(bind(op("add.Tensor", self="input", alpha=1), add), Binding)
    assert stopped(op("add.Tensor", self="input", alpha=2), add) == (1, "1", "the number 2")


def test_second_user_stops_a_fusion() -> None:
    """An inner result that somebody else reads cannot be fused away, the graph's output included."""
    pattern = op("relu", self=CONV)
    conv = nn.Conv2d(3, 4, 1)
    module = graph_of(lambda x: (lambda y: (y.relu(), y))(conv(x)), IMAGE)
    assert stopped(pattern, node_of(module, "relu")) == (
        2, "conv2d with 2 uses", "aten.conv2d.default with one use",
    )  # fmt: skip


def test_second_use_by_the_same_operator_stops_a_fusion() -> None:
    """An operator that reads the inner result twice has one user, and still needs the result."""
    module = graph_of(lambda x: (lambda y: y + y)(x.relu()), ROW)
    add = node_of(module, "add")
    assert len(node_of(module, "relu").users) == 1
    for other in ("other", op("relu", self="input")):
        pattern = op("add.Tensor", self=op("relu", self="input"), other=other, commutative=True)
        assert stopped(pattern, add)[1] == "relu with 2 uses"


def test_users_of_captures_do_not_matter() -> None:
    """What is captured is read by the kernel, and by whoever else."""
    module = graph_of(lambda x: x.sigmoid() * x + x, ROW)
    assert len(bound(SWISH, node_of(module, "mul")).nodes) == 2


def test_where_a_pattern_stopped() -> None:
    """The mismatch names what was found and what was expected, at the deepest place of all orders."""
    module = graph_of(lambda x, y: (x.tanh() + y).relu(), ROW, ROW)
    relu, add = node_of(module, "relu"), node_of(module, "add")
    assert stopped(op("sigmoid", self="input"), relu) == (0, "aten.relu.default", "sigmoid")
    assert stopped(op("relu", self=op("mul", self="a")), relu) == (1, "aten.add.Tensor", "mul")
    deep = op("relu", self=op("add", self=op("relu", "sigmoid", self="a"), other="b", commutative=True))
    assert stopped(deep, relu) == (2, "aten.tanh.default", "relu|sigmoid")
    swapped = op("add", self="b", other=op("tanh", self=op("abs", self="a")), commutative=True)
    assert stopped(swapped, add) == (2, "placeholder", "abs")


def test_placeholder_is_no_operator() -> None:
    """A pattern never holds at an input."""
    (x,) = graph_of(lambda x: x.relu(), ROW).graph.find_nodes(op="placeholder")
    assert stopped(op("relu", self="input"), x) == (0, "placeholder", "relu")


def test_float_operand_behind_a_dequantize() -> None:
    """A fusion does not reach through a dequantize, which ends the kernel before."""

    def dequantize(x: Any) -> Any:
        return x

    dequantize.__name__ = "quantized_decomposed.dequantize_per_tensor.default"
    module = graph_of(lambda x: x.tanh().relu(), ROW)
    relu = node_of(module, "relu")
    with module.graph.inserting_before(relu):
        relu.args = (module.graph.call_function(dequantize, relu.args),)
    pattern = op("relu", self=op("quantized_decomposed.dequantize_per_tensor", "tanh", self="input"))
    assert stopped(pattern, relu)[0] == 1


def test_alternative_argument_names() -> None:
    """Operators of one row may call the same argument by other names."""
    pattern = op("relu", "gelu", "prelu", "softplus", input__or__self="input")
    assert pattern.operands == (("input|self", "input"),)
    for activation in (nn.ReLU(), nn.PReLU()):
        (call,) = nodes_of(graph_of(activation, ROW), "relu") or nodes_of(graph_of(activation, ROW), "prelu")
        assert bound(pattern, call).captures["input"] is call.args[0]


def test_argument_that_the_operator_does_not_have() -> None:
    """It is absent, which an optional capture takes and another does not."""
    relu = node_of(graph_of(lambda x: x.relu(), ROW), "relu")
    assert bound(op("relu", self="input", bias="bias?"), relu).captures["bias"] is None
    assert stopped(op("relu", self="input", bias="bias"), relu) == (1, "None", "a tensor for bias")


def test_commutative_with_one_operand() -> None:
    """There is nothing to change places with."""
    with pytest.raises(TableError, match=r"add\(a\) is commutative\n.*two operands or more"):
        op("add", self="a", commutative=True)


def test_binding_is_pure() -> None:
    """Neither the graph nor the pattern changes, and a second attempt gives the same."""
    module = graph_of(lambda x: x.sigmoid() * x, ROW)
    before = str(module.graph)
    mul = node_of(module, "mul")
    assert bind(SWISH, mul) == bind(SWISH, mul)
    assert str(module.graph) == before
