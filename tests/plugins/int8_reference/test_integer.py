"""The integer representation of every row: near the q/dq form, and the same bits in portable kernels."""

from __future__ import annotations

import functools

import pytest
import torch
from kit import Branches, beyond
from reference_cases import Case, cases
from torch import Tensor, nn
from whole import WHOLE

import quanthost
from quanthost import inspection
from quanthost.errors import ConversionError, ProgramError, RequestError
from quanthost.stages.records import CalibratedModel, ConvertedModel
from quanthost.values import GEMMLOWP, PROFILES, ArithmeticProfile, Rescaling

pytestmark = pytest.mark.slow

# all of them; fused clamps once
CASES = [case for case in cases() if not case.row.endswith(("_relu", "_relu6"))]
CASES += [case for case in cases() if case.row in ("conv_relu", "add_relu6")]
# the first case of each row, for what does not depend on the operands
ONE_EACH = list({case.row: case for case in reversed(CASES)}.values())
# a kind of each: what sums or multiplies, and rescales
RESCALING = [
    case for case in ONE_EACH if case.row in ("conv", "linear", "mm", "add", "mul", "mean", "sigmoid")
]
SETS = {"all": CASES, "one each": ONE_EACH, "rescaling": RESCALING}
# steps from the q/dq form: an operator rounds once where q/dq rounds in float, sums in fixed point twice
MOST_STEPS = 2


def inputs_of(cases: list[Case]) -> tuple[Tensor, ...]:
    return tuple(tensor for case in cases for tensor in case.inputs)


@functools.cache
def calibrated(recipe: str, which: str = "all") -> CalibratedModel:
    """The rows as branches of one model."""
    cases = SETS[which]
    captured = quanthost.capture(Branches(cases), inputs_of(cases))
    prepared = quanthost.prepare(captured, "int8_reference", recipe, placement="all")
    return quanthost.calibrate(prepared, [inputs_of(cases)])


INPUTS = inputs_of(CASES)


@functools.cache
def golden(recipe: str, profile: str) -> ConvertedModel:
    return quanthost.convert(calibrated(recipe), "integer", profile)


@pytest.mark.parametrize("recipe", ["int8_static", "int8_static_per_tensor", "uint8_static", "int4_static"])
def test_no_island(recipe: str) -> None:
    """Each operator is integer."""
    islands = [d for d in golden(recipe, "single_rounding").decisions if d.is_island]

    assert [(d.node, d.form) for d in islands] == []


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "power_of_two"])
@pytest.mark.parametrize("recipe", ["int8_static", "uint8_static"])
def test_near_the_qdq_form(recipe: str, profile: str) -> None:
    """Each result, also beyond what calibration saw, of operands that may differ by a step themselves."""
    qdq = quanthost.convert(calibrated(recipe))

    comparison = inspection.compare_bits(golden(recipe, profile), qdq, [INPUTS, beyond(INPUTS)])

    assert comparison.not_shown == ()
    assert [(d.name, d.largest) for d in comparison.operators if d.largest > MOST_STEPS] == []


@pytest.mark.parametrize(
    ("profile", "which"),
    [
        ("fp32_half_even", "all" if WHOLE else "one each"),
        ("gemmlowp", "one each" if WHOLE else "rescaling"),
    ],
)
def test_the_program_is_the_eager_form(profile: str, which: str) -> None:
    """Bit for bit, without a delegate; the second profile has other rescaling in the same operators."""
    golden_form = quanthost.convert(calibrated("int8_static", which), "integer", profile)
    program = quanthost.lower(golden_form, intermediates=True)

    inputs = inputs_of(SETS[which])
    comparison = inspection.compare_bits(golden_form, program, [inputs, beyond(inputs)])

    assert program.record.pieces == ()
    assert not any(name.startswith("quantized_decomposed") for name in program.record.outside)
    assert [d for d in comparison.operators if d.differing] == []
    assert comparison.equal


class Wide(nn.Module):
    """Layers and functions of 16-bit tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 32)
        self.conv = nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.second(nn.functional.gelu(self.first(x)))) + torch.sigmoid(x[:, :32])
        return torch.softmax(hidden, -1), nn.functional.hardswish(self.conv(image)).mean((2, 3))


@pytest.mark.parametrize(
    ("recipe", "least_db"), [("int16_static", 45.0), ("int4_static", 15.0), ("int4_group_static", 15.0)]
)
def test_other_widths(recipe: str, least_db: float) -> None:
    """Near the model, and the same in the runtime; functions of 16 bits state their error."""
    torch.manual_seed(0)
    model, inputs = Wide().eval(), (torch.randn(16, 64), torch.randn(2, 4, 9, 9))
    prepared = quanthost.prepare(quanthost.capture(model, inputs), "int8_reference", recipe, placement="all")
    calibrated = quanthost.calibrate(prepared, [inputs])
    made = quanthost.convert(calibrated, "integer")

    levels = [
        10 * torch.log10(wanted.square().sum() / (wanted - got).square().sum())
        for wanted, got in zip(model(*inputs), made.module(*inputs))
    ]
    errors = [m.error for m in made.module.modules() if type(m).__name__ == "Interpolation"]

    assert min(levels) > least_db
    assert bool(errors) == (recipe == "int16_static")
    assert all(error <= 3 for error in errors)
    assert inspection.compare_bits(made, quanthost.lower(made, intermediates=True), [inputs]).equal
    # the q/dq form runs as well
    assert quanthost.lower(quanthost.convert(calibrated)).run(*inputs)[0].shape == (16, 32)


class Shared(nn.Module):
    """One convolution twice, on inputs of any number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        once = torch.relu(self.conv(x))
        return once, self.conv(once)


def test_awkward_inputs() -> None:
    """A module used twice, two results, any batch size, channels-last and strided inputs."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    dynamic = {0: torch.export.Dim("rows", min=1, max=9)}
    captured = quanthost.capture(Shared().eval(), (x,), dynamic_shapes=(dynamic,))
    made = quanthost.convert(
        quanthost.calibrate(quanthost.prepare(captured, "int8_reference", placement="all"), [x]), "integer"
    )
    program = quanthost.lower(made, intermediates=True)
    inputs = [
        torch.randn(5, 3, 8, 8),
        x.to(memory_format=torch.channels_last),
        torch.randn(2, 3, 8, 16)[..., ::2],
        torch.zeros(1, 3, 8, 8),
    ]

    assert [inspection.compare_bits(made, program, [given]).equal for given in inputs] == [True] * 4


def test_the_reference_representation() -> None:
    """Sums of products are integers rescaled in float32, the rest is q/dq in primitive operators; it runs."""
    reference = quanthost.convert(calibrated("int8_static", "one each"), "reference", "fp32_half_even")
    program = quanthost.lower(reference, intermediates=True)
    kinds = {type(module).__name__ for module in reference.module.modules()}

    assert kinds & {"Convolution", "Linear", "MatMul"} == {"Convolution", "Linear", "MatMul"}
    assert not kinds & {"Multiply", "Lookup", "Add", "Mean", "MaxPool"}
    assert not any(
        name.startswith("quantized_decomposed.") and "per_tensor" in name for name in program.record.outside
    )
    assert inspection.compare_bits(reference, program, [inputs_of(ONE_EACH)]).equal


def _linear(features: int = 4096) -> CalibratedModel:
    torch.manual_seed(0)
    x = torch.randn(2, features)
    model = nn.Linear(features, 2).eval()
    return quanthost.calibrate(quanthost.prepare(quanthost.capture(model, (x,)), "int8_reference"), [x])


def test_an_accumulator_that_is_too_narrow() -> None:
    """The operator, how far it reaches, its channels, and what to do."""
    narrow = ArithmeticProfile(name="narrow", rescaling=Rescaling.GEMMLOWP, accumulator_bits=16)

    with pytest.raises(
        ConversionError, match=r"linear can reach \d+ in 2 of 2 channels \(0, 1\)\n  needed: "
    ):
        quanthost.convert(_linear(), "integer", narrow)


@pytest.mark.parametrize(
    ("representation", "profile", "message"),
    [
        ("integer", "gemlowp", "the arithmetic profile 'gemlowp'\n  needed: one of fp32_half_even, gemmlowp"),
        ("qdq", "gemmlowp", "an arithmetic profile for the representation qdq"),
        ("reference", GEMMLOWP, "the arithmetic profile gemmlowp for the representation reference"),
    ],
)
def test_profiles_that_do_not_fit(representation: str, profile: str, message: str) -> None:
    """What there is, and what goes together."""
    with pytest.raises(RequestError, match=message):
        quanthost.convert(_linear(8), representation, profile)


def test_integers_at_the_ends() -> None:
    """A program of int8 gives the integers of the one of floats, keeps its signature, and holds no float."""
    calibrated = _linear(8)
    made = quanthost.convert(calibrated, "integer")
    plain, narrow = quanthost.lower(made), quanthost.lower(made, io="int8")
    (given,), (result,) = plain.record.quantized_inputs, plain.record.quantized_outputs
    x = torch.randn(2, 8)
    integers = (torch.round(x * (1 / given.scale)) + given.zero_point).clamp(-128, 127).to(torch.int8)

    made_integers = narrow.run(integers)

    assert made_integers.dtype is torch.int8
    assert torch.equal((made_integers.float() - result.zero_point) * result.scale, plain.run(x))
    assert narrow.record.quantized_inputs == plain.record.quantized_inputs
    with pytest.raises(ProgramError, match="a program that returns no intermediate integers"):
        narrow.intermediates(integers)
    with pytest.raises(RequestError, match="io='int9'\n  needed: one of float, int8, uint8, int16"):
        quanthost.lower(made, io="int9")
    with pytest.raises(RequestError, match="io='uint8', but the input input is float"):
        quanthost.lower(made, io="uint8")
