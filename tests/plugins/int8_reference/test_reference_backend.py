"""The plugin object: recipes, fixed ranges in the recipe's dtype, biases with and without, no partitioner."""

from __future__ import annotations

import pytest

from quanthost.api import DerivedQSpec, DType, FixedQSpec, Kernel, Match, QSpec, QSpecChoice, Request, Role
from quanthost.errors import RequestError
from quanthost_int8_reference.backend import backend


def _request(recipe: str) -> Request:
    return Request(backends="int8_reference", recipe=recipe)


def _chosen(match: Match, recipe: str) -> dict[str, object]:
    choice = backend.quanthost_choose_qspecs(match, _request(recipe))
    assert isinstance(choice, QSpecChoice)
    return dict(choice.as_dict())


def _match(row: str, *captures: str, kernel: Kernel = Kernel.STATIC) -> Match:
    return Match(
        backend="int8_reference", row=row, kernel=kernel, nodes=["node"],
        captures={name: f"of_{name}" for name in captures},
        roles={"weight": Role.WEIGHT, "bias": Role.BIAS},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "scale", "signed", "unsigned"),
    [
        ("softmax", 1 / 256, -128, 0),
        ("sigmoid", 1 / 256, -128, 0),
        ("hardsigmoid", 1 / 256, -128, 0),
        ("tanh", 1 / 128, 0, 128),
    ],
    ids=["softmax", "sigmoid", "hardsigmoid", "tanh"],
)
def test_fixed_ranges_have_the_activations_dtype(row: str, scale: float, signed: int, unsigned: int) -> None:
    """One real range: in int8 and, moved by 128, in uint8."""
    match = _match(row, "input")

    assert _chosen(match, "int8_static")["output"] == FixedQSpec(
        dtype=DType.INT8, scale=scale, zero_point=signed
    )
    assert _chosen(match, "uint8_static")["output"] == FixedQSpec(
        dtype=DType.UINT8, scale=scale, zero_point=unsigned
    )


@pytest.mark.parametrize("recipe", ["int8_static", "int8_static_per_tensor", "uint8_static"])
def test_a_bias_is_derived_from_input_and_weight(recipe: str) -> None:
    """int32 with the product of both scales; a layer without bias has no such tensor."""
    chosen = _chosen(_match("linear", "input", "weight", "bias"), recipe)

    assert chosen["bias"] == DerivedQSpec(sources=("input", "weight"), dtype=DType.INT32)
    assert set(_chosen(_match("linear", "input", "weight"), recipe)) == {"input", "weight", "output"}


def test_unsigned_activations_leave_weights_signed() -> None:
    """Only activations become uint8."""
    chosen = _chosen(_match("conv", "input", "weight", "bias"), "uint8_static")

    assert {name: spec.dtype for name, spec in chosen.items() if isinstance(spec, QSpec)} == {
        "input": DType.UINT8, "weight": DType.INT8, "output": DType.UINT8,
    }  # fmt: skip


def test_weight_only_quantizes_weights_alone() -> None:
    """Neither bias nor activation has a spec."""
    match = _match("linear", "input", "weight", "bias", kernel=Kernel.WEIGHT_ONLY)

    assert set(_chosen(match, "int8_weight_only")) == {"weight"}


@pytest.mark.parametrize(
    ("row", "axis"), [("conv", 0), ("conv_transpose", 1), ("matmul_weight", 1), ("addmm", 1)]
)
def test_scales_lie_along_the_output_channels(row: str, axis: int) -> None:
    """Each layout of a weight has its own axis."""
    weight = _chosen(_match(row, "input", "weight"), "int8_static")["weight"]

    assert isinstance(weight, QSpec)
    assert weight.axis == axis


def test_there_is_no_partitioner() -> None:
    """Programs run in the runtime's own kernels, which the options name."""
    assert backend.quanthost_create_partitioners(_request("int8_static")) == []
    assert backend.quanthost_lowering_options().runtime_modules == ("executorch.kernels.quantized",)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    """The refusal lists what can be had."""
    with pytest.raises(RequestError, match="one of int8_static, int8_static_per_tensor, uint8_static"):
        backend.recipe(_request("int8_dynamic"))
