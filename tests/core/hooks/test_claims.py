"""Claims: which kernel of a row fits the conversions around an operator, and which nodes belong to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from flow_nets import rand
from torch import nn
from torch.export import ExportedProgram

from quanthost.api import Claim, Gain, Kernel, Role, Row, SupportTable, constraint, op
from quanthost.graph.operators import operator_name
from quanthost.hooks.claims import find_claims, operators_to_keep

q = torch.ops.quantized_decomposed
LINEAR = Row(
    name="linear", pattern=op("linear", input="input", weight="weight", bias="bias?"),
    kernels={Kernel.STATIC, Kernel.DYNAMIC, Kernel.FLOAT},
    roles={"weight": Role.WEIGHT, "bias": Role.BIAS}, gain=Gain.DRIVES,
)  # fmt: skip
FUSED = attrs.evolve(LINEAR, name="linear_relu", pattern=op("relu", self=LINEAR.pattern))
WEIGHTS = attrs.evolve(LINEAR, name="weights", kernels={Kernel.WEIGHT_ONLY})
BOTH = {Kernel.STATIC, Kernel.FLOAT}
ADD = Row(name="add", pattern=op("add.Tensor", self="a", other="b"), kernels=BOTH)
CAT = Row(name="cat", pattern=op("cat", tensors="inputs*"), kernels=BOTH, shares=("inputs", "output"))
SLICE = Row(name="slice", pattern=op("slice.Tensor", self="input"), kernels=BOTH, shares=("input", "output"))
TABLE = SupportTable((LINEAR, FUSED, WEIGHTS, ADD, CAT, SLICE))
X = rand(2, 4)


def quantize(x: torch.Tensor, scale: float = 0.1, zero_point: int = 0) -> torch.Tensor:
    made: torch.Tensor = q.quantize_per_tensor.default(x, scale, zero_point, -128, 127, torch.int8)
    return made


def dequantize(x: torch.Tensor, scale: float = 0.1, zero_point: int = 0) -> torch.Tensor:
    made: torch.Tensor = q.dequantize_per_tensor.default(x, scale, zero_point, -128, 127, torch.int8)
    return made


def both(x: torch.Tensor, scale: float = 0.1, zero_point: int = 0) -> torch.Tensor:
    return dequantize(quantize(x, scale, zero_point), scale, zero_point)


def at_run_time(x: torch.Tensor) -> torch.Tensor:
    scale, zero_point = q.choose_qparams.tensor(x, -128, 127, 1e-5, torch.int8)
    made = q.quantize_per_tensor.tensor(x, scale, zero_point, -128, 127, torch.int8)
    result: torch.Tensor = q.dequantize_per_tensor.tensor(made, scale, zero_point, -128, 127, torch.int8)
    return result


class Body(nn.Module):
    """Computes what a test asks for, with an integer weight and a float one."""

    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.body = body
        self.float_weight = nn.Parameter(rand(4, 4))
        self.register_buffer("integers", torch.arange(16, dtype=torch.int8).reshape(4, 4))
        self.register_buffer("scales", torch.full((4,), 0.5))
        self.register_buffer("zeros", torch.zeros(4, dtype=torch.int64))

    def weight(self) -> torch.Tensor:
        made: torch.Tensor = q.dequantize_per_channel.default(
            self.integers, self.scales, self.zeros, 0, -127, 127, torch.int8
        )
        return made

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self, x)


def linear(s: Body, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(x, s.weight())


def exported(body: Callable[..., Any], given: torch.Tensor = X) -> ExportedProgram:
    return torch.export.export(Body(body), (given,))


def claims(body: Callable[..., Any], given: torch.Tensor = X, table: SupportTable = TABLE) -> list[Claim]:
    return find_claims(table, exported(body, given))


def base_of(name: str) -> str:
    """``"relu"`` of ``aten.relu.default``."""
    return name.split(".")[-2] if "." in name else name


def told(found: list[Claim]) -> list[tuple[str, str, list[str]]]:
    """Row, kernel, and the sorted base names of the nodes of each claim."""
    return [
        (claim.site.row.name, claim.site.kernel.value, sorted(base_of(operator_name(n)) for n in claim.nodes))
        for claim in found
    ]


def test_an_integer_kernel_takes_its_conversions() -> None:
    """Those of its operands and of its result; not the quantize that made an operand."""
    assert told(claims(lambda s, x: both(linear(s, both(x))))) == [
        (
            "linear",
            "static",
            ["dequantize_per_channel", "dequantize_per_tensor", "linear", "quantize_per_tensor"],
        )
    ]


def test_what_is_fused_lies_inside() -> None:
    """Layer and ReLU are one kernel, with one conversion behind both."""
    ((row, kernel, nodes),) = told(claims(lambda s, x: both(torch.relu(linear(s, both(x))))))
    assert (row, kernel) == ("linear_relu", "static")
    assert nodes == [
        "dequantize_per_channel",
        "dequantize_per_tensor",
        "linear",
        "quantize_per_tensor",
        "relu",
    ]


STATIC_MISFITS: dict[str, Callable[..., Any]] = {
    "float activation": lambda s, x: both(linear(s, x)),
    "float weight": lambda s, x: both(nn.functional.linear(both(x), s.float_weight)),
    "float result": lambda s, x: linear(s, both(x)),
    "result read twice": lambda s, x: (lambda y: (both(y), quantize(y, 0.2)))(linear(s, both(x))),
    "operand read twice": lambda s, x: (lambda y: (both(linear(s, y)), y))(both(x)),
    "range at run time": lambda s, x: both(linear(s, at_run_time(x))),
}


@pytest.mark.parametrize("body", STATIC_MISFITS.values(), ids=STATIC_MISFITS.keys())
def test_an_integer_kernel_needs_all_of_its_conversions(body: Callable[..., Any]) -> None:
    """One that is missing or shared, and no kernel with static ranges fits."""
    assert "static" not in [kernel for _, kernel, _ in told(claims(body))]


def test_a_quantized_weight_is_no_float_one() -> None:
    """Where no integer kernel fits, the layer is left to the runtime."""
    assert claims(lambda s, x: both(linear(s, x)), table=SupportTable((LINEAR,))) == []


def test_an_operator_without_weight_may_be_float_between_conversions() -> None:
    """Then the conversions stay outside of its claim."""
    assert told(claims(lambda s, x: both(x) + both(x, 0.2))) == [("add", "float", ["add"])]


def test_a_float_layer() -> None:
    """Weight and operands as they are."""
    assert told(claims(lambda s, x: nn.functional.linear(x, s.float_weight))) == [
        ("linear", "float", ["linear"])
    ]


def test_shared_parameters_must_be_equal() -> None:
    """Number by number, on all sides; else the operator is float."""
    same = told(claims(lambda s, x: both(torch.cat([both(x), both(x + 1)]))))
    assert [(row, kernel) for row, kernel, _ in same if row == "cat"] == [("cat", "static")]
    bodies: list[Callable[..., Any]] = [
        lambda s, x: both(torch.cat([both(x), both(x, 0.1, 1)])),
        lambda s, x: both(torch.cat([both(x), both(x)]), 0.2),
        lambda s, x: both(torch.cat([both(x, 0.2), both(x)])),
    ]
    for body in bodies:
        assert [(row, kernel) for row, kernel, _ in told(claims(body))] == [("cat", "float")]


def test_a_range_at_run_time_comes_with_what_computes_it() -> None:
    """Choose, its two results, quantize and dequantize are the kernel's; its result is float."""
    assert told(claims(lambda s, x: linear(s, at_run_time(x)))) == [
        (
            "linear", "dynamic",
            [
                "choose_qparams", "dequantize_per_channel", "dequantize_per_tensor",
                *("getitem", "getitem", "linear", "quantize_per_tensor"),
            ],
        )
    ]  # fmt: skip


def test_a_chain_that_two_kernels_want_is_the_first_one_s() -> None:
    """No node belongs to two claims."""

    def twice(s: Body, x: torch.Tensor) -> torch.Tensor:
        y = at_run_time(x)
        return linear(s, y) + linear(s, y)

    found = claims(twice)
    nodes = [node for claim in found for node in claim.nodes]
    assert len(nodes) == len(set(nodes))
    assert [row for row, kernel, _ in told(found) if kernel == "dynamic"] == ["linear"]


def test_weights_alone() -> None:
    """A float operand, an integer weight: the kernel takes the weight's conversion."""
    assert told(claims(linear)) == [("weights", "weight_only", ["dequantize_per_channel", "linear"])]
    assert claims(lambda s, x: linear(s, both(x)), table=SupportTable((WEIGHTS,))) == []


def test_rows_that_the_runtime_runs_are_not_claimed() -> None:
    """The partitioner leaves what is not delegated."""
    assert claims(linear, table=SupportTable((attrs.evolve(WEIGHTS, delegated=False),))) == []


def test_integers_are_not_claimed_for_float_kernels() -> None:
    """Indices and counts are the runtime's."""
    assert claims(lambda s, x: x + x, torch.ones(2, 4, dtype=torch.int64)) == []


def test_integer_kernels_come_first() -> None:
    """A float row takes what they leave."""
    found = told(claims(lambda s, x: both(linear(s, both(x))) + x))
    assert [(row, kernel) for row, kernel, _ in found] == [("linear", "static"), ("add", "float")]


HARDSWISH = Row(
    name="hardswish", pattern=op("hardswish", self="input"), kernels={Kernel.FLOAT}, keeps=("hardswish",)
)  # fmt: skip


def kept(body: Callable[..., Any], given: torch.Tensor = X) -> list[str]:
    return [str(each) for each in operators_to_keep(SupportTable((HARDSWISH, ADD)), exported(body, given))]


def test_operators_that_are_taken_everywhere_are_kept() -> None:
    """What the table does not keep, or the program does not have, is not named."""
    hardswish = nn.functional.hardswish
    assert kept(lambda s, x: hardswish(x) + hardswish(x + 1)) == ["aten.hardswish.default"]
    assert kept(lambda s, x: x + 1) == []


def test_an_operator_that_is_left_somewhere_is_kept_nowhere() -> None:
    """ExecuTorch refuses a program in which one is left that should have been decomposed."""

    def wide(site: Any) -> str | None:
        return None if site.shape("input")[-1] == 4 else "narrow"

    table = SupportTable((attrs.evolve(HARDSWISH, constraints=(constraint("wide")(wide),)),))
    hardswish = nn.functional.hardswish
    some = exported(lambda s, x: (hardswish(x), hardswish(x[:, :2])))
    every = exported(lambda s, x: (hardswish(x), hardswish(x * 2)))
    assert operators_to_keep(table, some) == []
    assert operators_to_keep(table, every) == [torch.ops.aten.hardswish.default]
