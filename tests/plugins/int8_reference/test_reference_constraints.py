"""What a constraint refuses stays float and says why, in words about that node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quanthost
from quanthost.values import Cause, Decision, Verdict

W, B = torch.ones(4, 3), torch.ones(3)


class _Apply(nn.Module):
    """A function of the inputs and of a weight ``[4, 3]`` and a bias ``[3]``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.weight, self.bias = nn.Parameter(W), nn.Parameter(B)
        self.scalar = nn.Parameter(torch.ones(()))

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def _decision(function: Callable[..., Any], *inputs: Tensor) -> Decision:
    """The decision on the last operator of a function."""
    captured = quanthost.capture(_Apply(function).eval(), inputs)
    prepared = quanthost.prepare(captured, "int8_reference", "int8_static", placement="all")
    return prepared.decisions[-1]


MATRIX, LINE, CUBE = torch.ones(2, 4), torch.ones(2, 3, 8), torch.ones(2, 2, 3)
REFUSED: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], str]] = {
    "double": (lambda _, x: torch.relu(x), (LINE.double(),), "input is float64, not float32"),
    "alpha": (lambda _, x: torch.add(x, x, alpha=2), (LINE,), "alpha is 2"),
    "addmm_alpha": (lambda m, x: torch.addmm(m.bias, x, m.weight, alpha=3), (MATRIX,), "alpha is 3"),
    "addmm_beta": (lambda m, x: torch.addmm(m.bias, x, m.weight, beta=2), (MATRIX,), "beta is 2"),
    "addmm_scalar": (lambda m, x: torch.addmm(m.scalar, x, m.weight), (MATRIX,), "the bias has rank 0"),
    "addmm_computed": (
        lambda m, x, y: torch.addmm(m.bias, x, y),
        (MATRIX, torch.ones(4, 3)),
        "weight is computed, not a constant of the model",
    ),
    "conv_computed": (
        lambda _, x, w: F.conv1d(x, w), (LINE, torch.ones(1, 3, 2)),
        "weight is computed, not a constant of the model",
    ),
    "pad_value": (lambda _, x: F.pad(x, (1, 1), value=0.5), (LINE,), "it pads with 0.5"),
    "pad_crops": (lambda _, x: F.pad(x, (-1, 0)), (LINE,), "the padding [-1, 0] is negative"),
    "softmax_dtype": (
        lambda _, x: torch.softmax(x, -1, dtype=torch.float64), (LINE,), "output is float64, not float32",
    ),
    "mean_dtype": (lambda _, x: x.mean(-1, dtype=torch.float64), (LINE,), "output is float64, not float32"),
    "dropout": (
        lambda _, x: torch.dropout(x, 0.5, True), (LINE,), "it drops values, as in training",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_why(case: str) -> None:
    """The node stays float by a constraint of a row of this backend, and the reason names what was seen."""
    function, inputs, reason = REFUSED[case]
    decision = _decision(function, *inputs)

    assert (decision.verdict, decision.cause) == (Verdict.FLOAT, Cause.CONSTRAINT)
    assert decision.reason.startswith("row ")
    assert "of int8_reference: " in decision.reason
    assert reason in decision.reason


def test_a_product_with_a_constant_matrix_has_a_weight() -> None:
    """One operator, two rows: a constant matrix is a weight, a computed one an activation."""
    assert _decision(lambda m, x: x @ m.weight, MATRIX).row == "matmul_weight"
    assert _decision(lambda _, x, y: x @ y, MATRIX, torch.ones(4, 3)).row == "matmul"


def test_a_constant_stack_of_matrices_is_an_activation() -> None:
    """Channels of a weight need one axis; a stack of matrices has one range instead."""
    assert _decision(lambda m, x: x @ m.weight.expand(2, 4, 3), torch.ones(2, 5, 4)).row == "matmul"


def test_numbers_and_tensors_have_rows_of_their_own() -> None:
    """A number is no tensor that could be quantized."""
    assert _decision(lambda _, x: x * 0.5, LINE).row == "mul_number"
    assert _decision(lambda _, x, y: x * y, LINE, LINE).row == "mul"


def test_an_unknown_operator_has_no_row() -> None:
    """What the table does not know is told apart from what it refuses."""
    decision = _decision(lambda _, x: x.cumsum(-1), CUBE)

    assert (decision.verdict, decision.cause) == (Verdict.FLOAT, Cause.NO_ROW)
    assert decision.reason == "int8_reference has no int8 kernel for cumsum"
