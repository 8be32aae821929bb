"""The builder that rules use to rewrite a q/dq graph: finds operands, inserts integer modules and tables."""

from __future__ import annotations

import functools
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
from quanthost.integer.kernels.elementwise import Rescale
from quanthost.integer.kernels.forms import Output
from quanthost.integer.kernels.tables import Lookup, function_operator, leaky_relu_table
from quanthost.integer.numbers import Numbers, effective_scales, quantize_bias
from quanthost.integer.sites import Island, Operand, base_name, numbers_of, title, weight_of
from quanthost.values import ArithmeticProfile

__all__ = ["Builder", "Rule", "constant_or_fill", "per_dimension", "static_count"]

# functions whose steps XNNPACK orders differently from torch, so that the last bits of float32 differ:
# src/reference/unary-elementwise.cc
_SINGLE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "hardswish": lambda x: x / 6.0 * (x + 3.0).clamp(0.0, 6.0)
}


class Builder:
    """Rewrites a graph from its q/dq form to its integer form.

    ``forms`` describes by captured name what became of operators. ``integers`` are the nodes with integers
    that do not call an operator of this package. ``moves`` allows operators that only move data.
    """

    def __init__(self, module: fx.GraphModule, profile: ArithmeticProfile, *, moves: bool) -> None:
        self.module, self.profile, self.moves = module, profile, moves
        self.forms: dict[str, str] = {}
        self.moved: dict[fx.Node, Operand] = {}
        self.integers: set[fx.Node] = set()

    def operands(self, nodes: Sequence[Any], before: fx.Node) -> list[Operand]:
        return [self.operand(node, before) for node in nodes]

    def operand(self, node: object, before: fx.Node) -> Operand:
        """The integers behind a float node; looks through operators that only move data.

        Raises:
            Island: there are none.
        """
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
        moved = self.move(node, node, node.target, source.node, *node.args[1:], **node.kwargs)
        self.forms[title(node)] = "moves integers"
        self.moved[node] = Operand(moved, source.numbers)
        return self.moved[node]

    def call(self, before: fx.Node, core: fx.Node, operator: nn.Module, *operands: fx.Node) -> fx.Node:
        """Insert a call of an integer operator, named after the captured operator that it replaces."""
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
    ) -> Output:
        """Make the rescaling of an accumulator of scale ``Π factors`` to the result.

        Several scales broadcast over the accumulator in ``shape``.

        Raises:
            ConversionError: an accumulator or a multiplier does not fit the profile.
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
        return Output(shaped, out, bound=int(bounds.max()), products=products, offset=offset)

    def function(
        self, quantize: fx.Node, operand: Operand, chain: Sequence[fx.Node], out: Numbers
    ) -> fx.Node:
        """Insert a chain of functions of one number as a table; an empty chain requantizes."""
        numbers = operand.numbers
        core = chain[-1] if chain else quantize
        is_wide = numbers.high - numbers.low > 255
        places = self.profile.leaky_relu_places
        operator: nn.Module
        if is_wide and not chain:
            output = self.output(core, [numbers.scale], out, numbers.reach)
            operator = Rescale(output, zero_point=numbers.zero_point)
        elif not is_wide and len(chain) == 1 and base_name(core) == "leaky_relu" and places is not None:
            table = leaky_relu_table(numbers, out, float(argument(core, "negative_slope")), places)
            operator = Lookup(table, low=numbers.low, function=_label(chain))
        else:
            values = functools.partial(self._values, chain)
            operator = function_operator(values, numbers, out, self.profile, _label(chain))
        return self.call(quantize, core, operator, operand.node)

    def _values(self, chain: Sequence[fx.Node], real: Tensor) -> Tensor:
        """The results of a chain of functions for real numbers, in their dtype."""
        for node in chain:
            args = [constant(self.module, a) if isinstance(a, fx.Node) else a for a in node.args]
            args = [real if original is node.args[0] else a for original, a in zip(node.args, args)]
            single = _SINGLE.get(base_name(node)) if real.dtype is torch.float32 else None
            real = node.target(*args, **node.kwargs) if single is None else single(real)
        return real

    def requantize(self, before: fx.Node, operand: Operand, out: Numbers) -> fx.Node:
        """The operand with the scale and zero point of the result."""
        if operand.numbers == out:
            return operand.node
        return self.function(before, operand, (), out)

    def move(self, before: fx.Node, core: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Insert a call of an operator that moves integers, in place of a float one."""
        with self.module.graph.inserting_before(before):
            call = self.module.graph.call_function(target, args, kwargs)
        call.meta = {key: value for key, value in core.meta.items() if key != "val"}
        self.integers.add(call)
        return call

    def select(self, before: fx.Node, core: fx.Node, node: fx.Node, dim: int, places: Tensor) -> fx.Node:
        """Insert a selection of the elements at some places along a dimension."""
        index = Rewriter(self.module, before).constant(places, f"_{title(core)}_places")
        return self.move(before, core, torch.ops.aten.index_select.default, node, dim, index)

    def accumulate(
        self,
        core: fx.Node,
        operand: Operand,
        rows: Tensor,
        bias: Tensor | None,
        scale: Tensor | float,
        out: Numbers,
        shape: Sequence[int],
    ) -> Output:
        """The output of a sum of products with constant weights ``rows [C, K]``."""
        n = operand.numbers
        bound = accumulator_bound(rows, n.low, n.high, n.zero_point, bias)
        products = int(accumulator_bound(rows, n.low, n.high, n.zero_point, None).max())
        return self.output(core, [n.scale, scale], out, bound, shape, products=products)

    def bias(self, core: fx.Node, node: object, operand: Operand, scale: Tensor | float) -> Tensor | None:
        """The bias in units of the accumulator, int64."""
        if node is None:
            return None
        bias = constant(self.module, node)
        if bias is None:
            assert isinstance(node, fx.Node)
            if not is_dequantize(node) or (integers := constant(self.module, node.args[0])) is None:
                raise Island("its bias is computed")
            return integers.detach().to(torch.int64)
        integers = quantize_bias(bias.detach(), operand.numbers.scale, scale)
        check_width(integers.abs(), 32, operator=f"bias of {title(core)}")
        return integers


def _label(chain: Sequence[fx.Node]) -> str:
    return " of ".join(base_name(node) for node in reversed(chain)) or "requantization"


def static_count(sizes: Sequence[Any]) -> int:
    """The number of elements; raises ``Island`` if a size is dynamic."""
    if not all(isinstance(size, int) for size in sizes):
        raise Island("the number of elements that it averages is dynamic")
    return int(torch.Size(sizes).numel())


def per_dimension(value: Any, rank: int, default: int) -> list[int]:
    """An argument that is one number, a list or ``None`` as one number for each dimension."""
    if value is None:
        return [default] * rank
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def constant_or_fill(b: Builder, node: object, shape: Sequence[int], fill: float) -> Tensor:
    """The real values of a float or quantized constant, or ``fill`` if the argument is absent."""
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

Returns the node of integers; raises ``Island`` if the operator has no integer form.
"""
