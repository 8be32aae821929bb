"""Quick lowering gives the program of ExecuTorch's own: portable kernels, integers."""

from __future__ import annotations

import pytest
from flow_nets import rand
from kit import Branches
from reference_cases import cases
from two_ways import Convolutional, converted, same_program
from whole import WHOLE

import quanthost

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("recipe", ["int8_static", "fp32"])
def test_rows_in_portable_kernels(recipe: str) -> None:
    """Views, copies, numbers for tensors and mixed dtypes among them."""
    # tracing leaves a copy where idle dropout was, between quantize and dequantize of its own
    listed = [case for case in cases() if case.row != "dropout"]
    if not WHOLE:
        # other operands of a row are lowered in the same way
        listed = list({case.row: case for case in reversed(listed)}.values())
    inputs = tuple(tensor for case in listed for tensor in case.inputs)

    same_program(converted(Branches(listed), inputs, "int8_reference", recipe), inputs)


@pytest.mark.parametrize(("representation", "profile"), [("integer", None), ("reference", "fp32_half_even")])
def test_other_representations(representation: str, profile: str | None) -> None:
    """Modules on integers are traced once, their passes are spared."""
    x = rand(2, 3, 8, 8)
    prepared = quanthost.prepare(
        quanthost.capture(Convolutional().eval(), (x,)), "int8_reference", placement="all"
    )
    made = quanthost.convert(quanthost.calibrate(prepared, [x]), representation, profile)

    same_program(made, (x,), intermediates=True)
