"""The ``gemmlowp`` profile against its target: LiteRT for Microcontrollers' kernels, bit by bit.

CMSIS-NN's 8- and 16-bit kernels are specified to have the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from litert import Constant, run, schema
from torch import Tensor

from quanthost.arith.bounds import accumulator_bound
from quanthost.arith.rescale import Multipliers
from quanthost.integer.kernels.elementwise import Add, Rescale
from quanthost.integer.kernels.forms import Form, Output, set_form
from quanthost.integer.kernels.products import Convolution, Linear, Multiply
from quanthost.integer.numbers import Numbers, effective_scales
from quanthost.values import GEMMLOWP, SINGLE_ROUNDING

each_form = pytest.mark.parametrize("form", [Form.EAGER, Form.PORTABLE])
S = schema.BuiltinOperator
SEEDS = range(4)


def int8(scale: float, zero_point: int) -> Numbers:
    exact = float(torch.tensor(scale, dtype=torch.float32))
    return Numbers(scale=exact, zero_point=zero_point, low=-128, high=127, dtype=torch.int8)


def int16(scale: float) -> Numbers:
    exact = float(torch.tensor(scale, dtype=torch.float32))
    return Numbers(scale=exact, zero_point=0, low=-32768, high=32767, dtype=torch.int16)


class Draws:
    """Tensors and numbers from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def values(self, numbers: Numbers, shape: Sequence[int]) -> Tensor:
        drawn = torch.randint(numbers.low, numbers.high + 1, tuple(shape), generator=self.generator)
        return drawn.to(numbers.dtype)

    def weight(self, shape: Sequence[int]) -> Tensor:
        return torch.randint(-127, 128, tuple(shape), generator=self.generator).to(torch.int8)

    def bias(self, channels: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.randint(-3000, 3000, (channels,), generator=self.generator).to(dtype)

    def scales(self, channels: int) -> Tensor:
        return 0.001 + 0.02 * torch.rand(channels, generator=self.generator)

    def numbers(self) -> Numbers:
        zero_point = int(torch.randint(-128, 128, (), generator=self.generator))
        return int8(0.003 + 0.05 * float(torch.rand((), generator=self.generator)), zero_point)


def output(factors: list[Tensor | float], out: Numbers, bound: int, shape: Sequence[int] = ()) -> Output:
    multipliers = Multipliers.make(GEMMLOWP, effective_scales(GEMMLOWP, factors, out.scale))
    return Output(multipliers.shaped(shape), out, bound=bound)


def largest(rows: Tensor, n: Numbers, bias: Tensor) -> int:
    return int(accumulator_bound(rows, n.low, n.high, n.zero_point, bias).max())


@each_form
@pytest.mark.parametrize("seed", SEEDS)
def test_fully_connected(seed: int, form: Form) -> None:
    """int8 with one scale per row."""
    draws = Draws(seed)
    x, out, scales = draws.numbers(), int8(0.15, 5 - seed), draws.scales(13)
    weight, bias, numbers = draws.weight((13, 40)), draws.bias(13), draws.values(x, (300, 40))
    operator = Linear(
        weight, bias.to(torch.int64), output([x.scale, scales], out, largest(weight, x, bias), [-1]),
        zero_point=x.zero_point,
    )  # fmt: skip
    set_form(operator, form)

    wanted = run(
        S.FULLY_CONNECTED, (schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT()),
        [(numbers, x), Constant(weight, scales), Constant(bias, scales * x.scale)], ((300, 13), out),
    )  # fmt: skip

    assert torch.equal(operator(numbers), wanted)
    assert len(wanted.unique()) > 100


def _nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def _convolution(
    weight: Tensor, bias: Tensor, x: Numbers, scales: Tensor, out: Numbers, groups: int = 1
) -> Convolution:
    return Convolution(
        weight, bias.to(torch.int64),
        output([x.scale, scales], out, largest(weight.flatten(1), x, bias), [-1, 1, 1]),
        zero_point=x.zero_point, stride=[2, 1], padding=[0, 0], dilation=[1, 2], output_padding=[0, 0],
        groups=groups,
    )  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_convolution(seed: int) -> None:
    """Strides and dilations differ per dimension; one scale per channel."""
    draws = Draws(seed)
    x, out, scales = draws.numbers(), int8(0.15, seed), draws.scales(6)
    weight, bias, numbers = draws.weight((6, 5, 3, 2)), draws.bias(6), draws.values(x, (1, 5, 21, 18))
    operator = _convolution(weight, bias, x, scales, out)
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor = 2, 1, 1, 2

    result = _nhwc(operator(numbers))
    wanted = run(
        S.CONV_2D, (schema.BuiltinOptions.Conv2DOptions, options),
        [(_nhwc(numbers), x), Constant(_nhwc(weight), scales), Constant(bias, scales * x.scale)],
        (result.shape, out),
    )  # fmt: skip

    assert torch.equal(result, wanted)
    assert len(wanted.unique()) > 100


@pytest.mark.parametrize("seed", SEEDS)
def test_depthwise_convolution(seed: int) -> None:
    """Two output channels for each input channel."""
    draws = Draws(seed)
    x, out, scales = draws.numbers(), int8(0.06, -seed), draws.scales(8)
    weight, bias, numbers = draws.weight((8, 1, 3, 2)), draws.bias(8), draws.values(x, (1, 4, 21, 18))
    operator = _convolution(weight, bias, x, scales, out, groups=4)
    options = schema.DepthwiseConv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor = 2, 1, 1, 2
    options.depthMultiplier = 2

    result = _nhwc(operator(numbers))
    wanted = run(
        S.DEPTHWISE_CONV_2D, (schema.BuiltinOptions.DepthwiseConv2DOptions, options),
        [
            (_nhwc(numbers), x), Constant(weight.permute(1, 2, 3, 0), scales, axis=3),
            Constant(bias, scales * x.scale),
        ],
        (result.shape, out),
    )  # fmt: skip

    assert torch.equal(result, wanted)
    assert len(wanted.unique()) > 100


@each_form
@pytest.mark.parametrize("subtracts", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_add_and_sub(seed: int, *, subtracts: bool, form: Form) -> None:
    """Every pair of numbers."""
    draws = Draws(seed)
    a, b, out = draws.numbers(), draws.numbers(), draws.numbers()
    levels = torch.arange(-128, 128, dtype=torch.int8)
    first, second = levels.repeat(256, 1), levels.reshape(-1, 1).repeat(1, 256)
    operator = Add(GEMMLOWP, a, b, out, subtracts=subtracts)
    set_form(operator, form)
    option = schema.SubOptionsT() if subtracts else schema.AddOptionsT()
    kind = schema.BuiltinOptions.SubOptions if subtracts else schema.BuiltinOptions.AddOptions

    wanted = run(S.SUB if subtracts else S.ADD, (kind, option), [(first, a), (second, b)], ((256, 256), out))

    assert torch.equal(operator(first, second), wanted)
    assert len(wanted.unique()) > 50


@each_form
@pytest.mark.parametrize("seed", SEEDS)
def test_mul(seed: int, form: Form) -> None:
    """Every pair of numbers."""
    draws = Draws(seed)
    a, b, out = draws.numbers(), draws.numbers(), int8(0.02, 3)
    levels = torch.arange(-128, 128, dtype=torch.int8)
    first, second = levels.repeat(256, 1), levels.reshape(-1, 1).repeat(1, 256)
    operator = Multiply(
        output([a.scale, b.scale], out, a.reach * b.reach), zero_points=(a.zero_point, b.zero_point)
    )
    set_form(operator, form)

    wanted = run(
        S.MUL, (schema.BuiltinOptions.MulOptions, schema.MulOptionsT()), [(first, a), (second, b)],
        ((256, 256), out),
    )  # fmt: skip

    assert torch.equal(operator(first, second), wanted)
    assert len(wanted.unique()) > 50


@each_form
@pytest.mark.parametrize("ratio", [0.4, 0.5, 0.25, 1.0, 1.9])
def test_requantization(ratio: float, form: Form) -> None:
    """int16 to int8 for every number, including ties."""
    x, out = int16(0.01), int8(0.01 / ratio, -7)
    numbers = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).reshape(256, 256)
    operator = Rescale(output([x.scale], out, x.reach), zero_point=0)
    set_form(operator, form)

    wanted = run(S.QUANTIZE, None, [(numbers, x)], ((256, 256), out))

    assert torch.equal(operator(numbers), wanted)


def test_another_rounding_is_told_apart() -> None:
    """The operator with a single rounding differs from the kernel."""
    x, out = int16(0.01), int8(0.04, 0)
    numbers = torch.arange(-500, 500, dtype=torch.int32).to(torch.int16).reshape(10, 100)
    multipliers = Multipliers.make(
        SINGLE_ROUNDING, effective_scales(SINGLE_ROUNDING, [x.scale], out.scale)
    ).shaped(())
    operator = Rescale(Output(multipliers, out, bound=x.reach), zero_point=0)

    assert not torch.equal(operator(numbers), run(S.QUANTIZE, None, [(numbers, x)], ((10, 100), out)))
