"""The builder that the rules of conversion use: operands, modules on integers, functions as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from quanthost.arith.bounds import accumulator_bound, check_width
from quanthost.arith.rescale import Multipliers
from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument
from quanthost.graph.rewrite import Rewriter
from quanthost.graph.view import constant, is_dequantize
from quanthost.integer import kernels as ops
from quanthost.integer.numbers import (
    Numbers,
    effective_scales,
    function_table,
    leaky_relu_table,
    quantize_bias,
)
from quanthost.integer.sites import Island, Operand, base_name, numbers_of, title, weight_of
from quanthost.values import ArithmeticProfile

__all__ = ["Builder", "Rule", "constant_or", "each", "static_count"]

# functions that XNNPACK computes in another order of steps than torch, for other last bits in float32:
# src/reference/unary-elementwise.cc
_SINGLE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "hardswish": lambda x: x / 6.0 * (x + 3.0).clamp(0.0, 6.0)
}


class Builder:
    """A graph between its q/dq form and its integer form.

    ``forms`` describes the integer form of captured nodes, by name. ``integers`` are nodes that hold
    integers but call no operator of this package. ``moves`` allows operators that only move data.
    """

    def __init__(self, module: fx.GraphModule, profile: ArithmeticProfile, *, moves: bool) -> None:
        self.module, self.profile, self.moves = module, profile, moves
        self.forms: dict[str, str] = {}
        self.moved: dict[fx.Node, Operand] = {}
        self.integers: set[fx.Node] = set()

    def operands(self, nodes: Sequence[Any], before: fx.Node) -> list[Operand]:
        return [self.operand(node, before) for node in nodes]

    def operand(self, node: object, before: fx.Node) -> Operand:
        """The integers before a dequantize, also through operators that only move data."""
        if not isinstance(node, fx.Node):
            raise Island(f"an operand is {node!r}")
        if is_dequantize(node):
            numbers, source = numbers_of(node), node.args[0]
            if numbers is None:
                raise Island(f"{title(node)} has no single static range")
            assert isinstance(source, fx.Node)
            return Operand(source, numbers)
        if node in self.moved:
            return self.moved[node]
        if not operator_facts(node).moves or not self.moves:
            raise Island(f"it reads {title(node)}, which is not quantized")
        source = self.operand(node.args[0], before)
        moved = self.same(node, node, node.target, source.node, *node.args[1:], **node.kwargs)
        self.forms[title(node)] = "moves integers"
        self.moved[node] = Operand(moved, source.numbers)
        return self.moved[node]

    def call(self, before: fx.Node, core: fx.Node, operator: nn.Module, *operands: fx.Node) -> fx.Node:
        """A call of an integer operator, named after the captured node that it replaces."""
        name = f"{title(core)}_integer"
        while hasattr(self.module, name):
            name += "_"
        self.module.add_module(name, operator)
        with self.module.graph.inserting_before(before):
            call = self.module.graph.call_module(name, operands)
        call.meta = {key: value for key, value in core.meta.items() if key != "val"}
        return call

    def output(
        self,
        core: fx.Node,
        factors: Sequence[Tensor | float],
        out: Numbers,
        bound: Tensor | int,
        shape: Sequence[int] = (),
        *,
        averages: bool = False,
        products: int | None = None,
    ) -> ops.Output:
        """Rescales an accumulator of the scale ``Π factors`` to the result.

        Several scales broadcast over the accumulator in ``shape``.
        """
        bounds = torch.as_tensor(bound, dtype=torch.int64).reshape(-1)
        check_width(bounds, self.profile.accumulator_bits, operator=title(core))
        scales = effective_scales(self.profile, factors, out.scale)
        multipliers = Multipliers.make(self.profile, scales, operator=title(core))
        check_width(
            torch.tensor([multipliers.room(int(bounds.max()))]), 32, operator=f"rescaling of {title(core)}"
        )
        offset = out.zero_point if averages and self.profile.mean_includes_zero_point else 0
        shaped = multipliers.shaped(shape)
        return ops.Output(shaped, out, bound=int(bounds.max()), products=products, offset=offset)

    def function(
        self, quantize: fx.Node, operand: Operand, chain: Sequence[fx.Node], out: Numbers
    ) -> fx.Node:
        numbers = operand.numbers
        core = chain[-1] if chain else quantize
        if numbers.high - numbers.low > 255:
            if chain:
                return self._interpolation(quantize, operand, chain, out)
            output = self.output(core, [numbers.scale], out, numbers.reach)
            return self.call(quantize, core, ops.Rescale(output, zero_point=numbers.zero_point), operand.node)
        places = self.profile.leaky_relu_places
        if len(chain) == 1 and base_name(chain[0]) == "leaky_relu" and places is not None:
            table = leaky_relu_table(numbers, out, float(argument(chain[0], "negative_slope")), places)
            return self.call(
                quantize, core, ops.Lookup(table, low=numbers.low, function="leaky_relu"), operand.node
            )
        table = function_table(lambda real: self._values(chain, real), numbers, out, self.profile)
        lookup = ops.Lookup(table, low=numbers.low, function=_label(chain))
        return self.call(quantize, core, lookup, operand.node)

    def _values(self, chain: Sequence[fx.Node], real: Tensor) -> Tensor:
        """The values of a chain of functions for real numbers, in their dtype."""
        for node in chain:
            args = [constant(self.module, a) if isinstance(a, fx.Node) else a for a in node.args]
            args = [real if arg is node.args[0] else value for arg, value in zip(node.args, args)]
            single = _SINGLE.get(base_name(node)) if real.dtype is torch.float32 else None
            real = node.target(*args, **node.kwargs) if single is None else single(real)
        return real

    def _interpolation(
        self, quantize: fx.Node, operand: Operand, chain: Sequence[fx.Node], out: Numbers
    ) -> fx.Node:
        n = operand.numbers
        levels = torch.arange(n.low, n.low + 2**16)
        wanted = out.nearest(self._values(chain, n.real(levels)))
        ends = torch.arange(n.low, n.low + 2**16 + 1, 2**7)
        real = self._values(chain, n.real(ends)) / out.scale
        # beyond what the output holds a line would be pulled away from its end
        limits = (out.low - out.zero_point, out.high - out.zero_point)
        points = torch.round(real.nan_to_num(nan=0.0).clamp(*limits) * 2**8).to(torch.int64)
        operator = ops.Interpolation(points, out, low=n.low, function=_label(chain))
        operator.error = int((operator(levels).to(torch.int64) - wanted).abs().max())
        return self.call(quantize, chain[-1], operator, operand.node)

    def requantized(self, before: fx.Node, operand: Operand, out: Numbers) -> fx.Node:
        """The operand with the result's scale and zero point."""
        if operand.numbers == out:
            return operand.node
        return self.function(before, operand, (), out)

    def same(self, before: fx.Node, core: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A call of an operator that moves integers, in the place of a float one."""
        with self.module.graph.inserting_before(before):
            call = self.module.graph.call_function(target, args, kwargs)
        call.meta = {key: value for key, value in core.meta.items() if key != "val"}
        self.integers.add(call)
        return call

    def select(self, before: fx.Node, core: fx.Node, node: fx.Node, dim: int, places: Tensor) -> fx.Node:
        """The elements at some places along a dimension."""
        index = Rewriter(self.module, before).constant(places, f"_{title(core)}_places")
        return self.same(before, core, torch.ops.aten.index_select.default, node, dim, index)

    def accumulate(
        self,
        core: fx.Node,
        operand: Operand,
        rows: Tensor,
        bias: Tensor | None,
        scale: Tensor | float,
        out: Numbers,
        shape: Sequence[int],
    ) -> ops.Output:
        n = operand.numbers
        bound = accumulator_bound(rows, n.low, n.high, n.zero_point, bias)
        products = int(accumulator_bound(rows, n.low, n.high, n.zero_point, None).max())
        return self.output(core, [n.scale, scale], out, bound, shape, products=products)

    def bias(self, core: fx.Node, node: object, operand: Operand, scale: Tensor | float) -> Tensor | None:
        if node is None:
            return None
        bias = constant(self.module, node)
        if bias is None:
            assert isinstance(node, fx.Node)
            if not is_dequantize(node) or (integers := constant(self.module, node.args[0])) is None:
                raise Island("its bias is computed")
            return integers.detach().to(torch.int64)
        quantized = quantize_bias(bias.detach(), operand.numbers.scale, scale)
        check_width(quantized.abs(), 32, operator=f"bias of {title(core)}")
        return quantized


def _label(chain: Sequence[fx.Node]) -> str:
    return " of ".join(base_name(node) for node in reversed(chain)) or "requantization"


def static_count(sizes: Sequence[Any]) -> int:
    if not all(isinstance(size, int) for size in sizes):
        raise Island("the number of elements that it averages is dynamic")
    return int(torch.Size(sizes).numel())


def each(value: Any, rank: int, default: int) -> list[int]:
    if value is None:
        return [default] * rank
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def constant_or(b: Builder, node: object, shape: Sequence[int], fill: float) -> Tensor:
    """A constant, quantized or not; a tensor of ``fill`` where the node is ``None``."""
    if node is None:
        return torch.full(tuple(shape), fill)
    value = constant(b.module, node)
    if value is not None:
        return value.detach()
    weight = weight_of(b.module, node)
    scale = weight.scale if isinstance(weight.scale, float) else weight.scale.double()
    return weight.values.double() * scale


Rule = Callable[[Builder, fx.Node, fx.Node, Numbers], fx.Node]
"""Builds an operator's integer form from a builder, the quantize node, the operator and the result's numbers.

It returns the node of integers, and raises ``Island`` where there is no integer form.
"""
