"""Rules that build the integer forms of elementwise operators, softmax and layer norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from quanthost.arith.bounds import check_width
from quanthost.graph.operators import argument
from quanthost.graph.view import constant
from quanthost.integer.building import Builder, Rule, constant_or_fill, static_count
from quanthost.integer.kernels.elementwise import Add, Divide, Extremum
from quanthost.integer.kernels.normalizing import LayerNorm, Softmax
from quanthost.integer.kernels.products import Multiply
from quanthost.integer.kernels.tables import Lookup, function_table
from quanthost.integer.numbers import Numbers
from quanthost.integer.sites import Island, base_name, title, weight_of

__all__ = ["ELEMENTWISE"]


def _multiply(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    first, second = b.operands(core.args[:2], quantize)
    output = b.output(
        core, [first.numbers.scale, second.numbers.scale], out, first.numbers.reach * second.numbers.reach
    )
    zero_points = (first.numbers.zero_point, second.numbers.zero_point)
    return b.call(quantize, core, Multiply(output, zero_points=zero_points), first.node, second.node)


def _extremum(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    # rounding and clamping keep the order, so the operands may be requantized first
    first, second = (b.requantize(quantize, operand, out) for operand in b.operands(core.args[:2], quantize))
    return b.call(quantize, core, Extremum(largest=base_name(core) == "maximum"), first, second)


def _prelu(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operand(core.args[0], quantize)
    numbers = operand.numbers
    if numbers.high - numbers.low > 255:
        raise Island("its input has more than 8 bits")
    slopes = constant(b.module, core.args[1])
    if slopes is not None:
        real = slopes.detach().reshape(-1, 1)
        table = function_table(
            lambda x: torch.where(x >= 0, x, x * real.to(x.dtype)), numbers, out, b.profile
        )
    else:
        table = _prelu_of_products(b, core, numbers, out)
    table = table.reshape(-1, len(numbers.levels))
    table = table if len(table) > 1 else table[0]
    return b.call(quantize, core, Lookup(table, low=numbers.low, function="prelu"), operand.node)


def _prelu_of_products(b: Builder, core: fx.Node, numbers: Numbers, out: Numbers) -> Tensor:
    """The table for quantized slopes: two multipliers, as in XNNPACK's src/qs8-vprelu and LiteRT."""
    slopes = weight_of(b.module, core.args[1])
    if not isinstance(slopes.scale, float):
        raise Island("its slopes have more than one scale")
    values = slopes.values.to(torch.int64).reshape(-1, 1)
    levels = numbers.levels - numbers.zero_point
    most = numbers.reach * int(values.abs().max())
    above: Tensor = b.output(core, [numbers.scale], out, numbers.reach)(levels)
    below: Tensor = b.output(core, [numbers.scale, slopes.scale], out, most)(levels * values)
    return torch.where(levels >= 0, above, below)


def _add(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    if argument(core, "alpha", 1) != 1:
        raise Island(f"alpha is {argument(core, 'alpha')}")
    first, second = b.operands(core.args[:2], quantize)
    operator = Add(b.profile, first.numbers, second.numbers, out, subtracts=base_name(core) == "sub")
    return b.call(quantize, core, operator, first.node, second.node)


def _divide(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    if argument(core, "rounding_mode", None) is not None:
        raise Island(f"it rounds to the {argument(core, 'rounding_mode')}")
    numerator, divisor = b.operands(core.args[:2], quantize)
    operator = Divide(numerator.numbers, divisor.numbers, out)
    return b.call(quantize, core, operator, numerator.node, divisor.node)


def _softmax(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operand(core.args[0], quantize)
    dim = int(argument(core, "dim"))
    shape = core.args[0].meta["val"].shape
    if not shape:
        raise Island("its operand has no dimension")
    size = shape[dim]
    count = size if isinstance(size, int) else Softmax.MOST
    if count > Softmax.MOST:
        raise Island(f"it sums {count} numbers, more than {Softmax.MOST}")
    operator = Softmax(operand.numbers, out, dim, count)
    _check_int64([operator.bound], core)
    return b.call(quantize, core, operator, operand.node)


def _layer_norm(b: Builder, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = b.operand(core.args[0], quantize)
    shape = argument(core, "normalized_shape")
    count = static_count(shape)
    weight, bias = (
        constant_or_fill(b, argument(core, key), shape, fill)
        for key, fill in (("weight", 1.0), ("bias", 0.0))
    )
    operator = LayerNorm(
        operand.numbers, out, count=count, rank=len(shape), weight=weight, bias=bias,
        eps=argument(core, "eps"),
    )  # fmt: skip
    _check_int64(operator.bounds, core)
    return b.call(quantize, core, operator, operand.node)


def _check_int64(bounds: Sequence[int], core: fx.Node) -> None:
    most = 2**63 - 1
    check_width(torch.tensor([min(bound, most) for bound in bounds]), 63, operator=title(core))


ELEMENTWISE: Mapping[str, Rule] = {
    "mul": _multiply,
    "div": _divide,
    **dict.fromkeys(("maximum", "minimum"), _extremum),
    "prelu": _prelu,
    **dict.fromkeys(("add", "sub"), _add),
    **dict.fromkeys(("softmax", "_softmax"), _softmax),
    "layer_norm": _layer_norm,
}
