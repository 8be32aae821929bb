"""Every row of the table is lowered and run: the runtime gives the bits of the q/dq form in eager torch."""

from __future__ import annotations

from typing import Any

import pytest
from kit import Branches, Case, Proof, beyond, prove
from reference_cases import cases

import quanthost
from quanthost.api import Kernel
from quanthost.values import Verdict
from quanthost_int8_reference.backend import backend
from quanthost_int8_reference.rows import TABLE

pytestmark = pytest.mark.slow

CASES = cases()
WEIGHTED = [case for case in CASES if Kernel.WEIGHT_ONLY in TABLE.row(case.row).kernels]
# one case for each thing that depends on the activation's dtype: biases, padding, sharing, fixed ranges
_UNSIGNED = (
    "conv",
    "conv_transpose_grouped",
    "addmm",
    "softmax",
    "tanh",
    "sigmoid",
    "hardsigmoid",
    "cat",
    "pad",
)
_SHARING = {
    *("max_pool", "avg_pool", "mean", "cat", "stack", "pad", "view", "squeeze", "unsqueeze", "permute"),
    *("slice", "select", "expand", "copy", "dropout", "upsample_nearest"),
}
UNSIGNED = [case for case in CASES if case.row in _UNSIGNED]


def _proved(listed: list[Case], recipe: str) -> Proof:
    inputs = [tensor for case in listed for tensor in case.inputs]
    return prove(
        Branches(listed), inputs, backend=backend, recipe=recipe, placement="all", others=[beyond(inputs)]
    )


@pytest.fixture(scope="module")
def static() -> Proof:
    """All rows in one program, quantized by ``int8_static``."""
    return _proved(CASES, "int8_static")


def _strays(proof: Proof, listed: list[Case]) -> list[tuple[int, str, str]]:
    """Nodes that are neither quantized by the row of their case nor gone: case, operator, reason."""
    return [
        (number, decision.operator, decision.reason)
        for number, case in enumerate(listed)
        for decision in proof.of_case(number)
        if decision.verdict is not Verdict.FOLDED
        and (decision.verdict, decision.row) != (Verdict.QUANTIZED, case.row)
    ]


def test_each_row_has_a_case() -> None:
    """No row of the table is without a case, and no case without a row."""
    assert {case.row for case in CASES} == {row.name for row in TABLE}


def test_each_case_is_quantized_by_its_row(static: Proof) -> None:
    """Each operator is quantized, by the row that the case is about; only splits leave no node behind."""
    folded = {decision.operator for decision in static.decisions if decision.verdict is Verdict.FOLDED}

    assert all(static.of_case(number) for number in range(len(CASES)))
    assert _strays(static, CASES) == []
    assert folded == {"aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default", "getitem"}


def test_the_runtime_has_the_bits_of_the_qdq_form(static: Proof) -> None:
    """0 LSB between the ExecuTorch runtime and eager torch, also beyond the calibrated ranges."""
    assert {output.lsb for output in static.outputs} == {0.0}


def test_the_results_are_those_of_the_model(static: Proof) -> None:
    """At least 25 dB on what calibration saw: a wrong scale or zero point anywhere would leave less."""
    assert [(number, o.sqnr) for number, o in enumerate(static.runs[0]) if o.sqnr < 25.0] == []


def test_what_moves_data_keeps_its_parameters() -> None:
    """Where a row only moves, joins, pools or averages, operands and result have one scale and zero point."""
    listed = [case for case in CASES if case.row in _SHARING]
    inputs = tuple(tensor for case in listed for tensor in case.inputs)
    captured = quanthost.capture(Branches(listed), inputs)
    prepared = quanthost.prepare(captured, "int8_reference", "int8_static", placement="all")
    module = quanthost.convert(quanthost.calibrate(prepared, [inputs])).module
    found = [node for node in module.graph.nodes if node.op == "call_function" and not _converts(node)]

    assert len(found) >= len(listed)
    for node in found:
        around = [other for other in (*node.all_input_nodes, *node.users) if _converts(other)]
        assert len({other.args[1:] for other in around}) == 1, node.name


def _converts(node: Any) -> bool:
    return "quantized_decomposed" in str(node.target)


def test_nothing_is_delegated(static: Proof) -> None:
    """The program has no delegate, and each decision says so."""
    assert static.program.record.pieces == ()
    assert {decision.delegated for decision in static.decisions} == {False}


@pytest.mark.parametrize(
    ("recipe", "listed"),
    [("uint8_static", UNSIGNED), ("int8_static_per_tensor", WEIGHTED)],
    ids=["uint8_static", "int8_static_per_tensor"],
)
def test_other_static_recipes(recipe: str, listed: list[Case]) -> None:
    """The same bits with unsigned activations, and with one scale for each weight; 20 dB at least."""
    proof = _proved(listed, recipe)

    assert _strays(proof, listed) == []
    assert {output.lsb for output in proof.outputs} == {0.0}
    assert min(output.sqnr for output in proof.runs[0]) > 20.0


def test_weights_alone() -> None:
    """Float activations and int8 weights: the runtime is within 1e-6 of the largest value."""
    proof = _proved(WEIGHTED, "int8_weight_only")

    assert _strays(proof, WEIGHTED) == []
    assert max(output.relative for output in proof.outputs) < 1e-6
    assert 40.0 < min(output.sqnr for output in proof.outputs) < 60.0
    assert "quantized_decomposed.quantize_per_tensor.default" not in proof.program.record.outside
