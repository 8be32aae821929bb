"""From q/dq form to integer form: what lies between dequantize and quantize becomes exact operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from quanthost.arith.bounds import accumulator_bound, check_width
from quanthost.arith.rescale import Multipliers
from quanthost.graph.operators import argument
from quanthost.graph.rewrite import Rewriter, drop_idle_dropout
from quanthost.graph.view import constant, is_dequantize, is_quantize
from quanthost.integer import operators as ops
from quanthost.integer.normalizing import LayerNorm, Softmax
from quanthost.integer.numbers import Numbers, effective_scales, leaky_relu_table, quantize_bias
from quanthost.integer.sites import (
    Island,
    Operand,
    base_name,
    clamp_bounds,
    is_function_of_one,
    mark_site,
    numbers_of,
    site_of,
    title,
    weight_of,
)
from quanthost.values import ArithmeticProfile

__all__ = ["ACCUMULATING", "IntegerForms", "to_integers"]

# operators whose result has the numbers of their operand, in another place or less of them
_MOVERS = frozenset((
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "squeeze",
    "unsqueeze", "slice", "select", "narrow", "expand", "expand_as", "repeat", "clone", "contiguous", "alias",
    "detach", "flip", "roll", "index_select", "gather", "index", "amax", "amin",
    "view_as", "movedim", "unfold", "pixel_shuffle", "pixel_unshuffle",
))  # fmt: skip

ACCUMULATING = frozenset((
    "conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "linear", "addmm",
    "mm", "bmm", "matmul",
))  # fmt: skip
"""Operators that sum products: those which the reference representation has in integer form."""


@attrs.frozen
class IntegerForms:
    """What became of the operators: ``made`` describes the integer ones, ``islands`` tells why others
    stay float.

    Both go by the captured node's name.
    """

    made: dict[str, str]
    islands: dict[str, str]


def to_integers(
    module: fx.GraphModule, profile: ArithmeticProfile, only: frozenset[str] | None = None
) -> IntegerForms:
    """Rewrite a q/dq graph that the caller owns; ``only`` names the operators to take, all where ``None``.

    What lies between the dequantized operands of an operator and the quantize after it becomes one module on
    integers. Float operators that have no such form stay, between dequantize and quantize: islands.

    Raises:
        ArithmeticRangeError: an accumulator, a multiplier or a bias does not fit the profile.
    """
    return _Conversion(module, profile, only).run()


class _Conversion:
    def __init__(
        self, module: fx.GraphModule, profile: ArithmeticProfile, only: frozenset[str] | None
    ) -> None:
        self.module, self.profile, self.only = module, profile, only
        self.made: dict[str, str] = {}
        self.islands: dict[str, str] = {}
        self.moved: dict[fx.Node, Operand] = {}
        self.integers: set[fx.Node] = set()

    def run(self) -> IntegerForms:
        drop_idle_dropout(self.module)
        _infer_shapes(self.module)
        for node in list(self.module.graph.nodes):
            if is_quantize(node):
                self._convert(node)
        self.module.graph.eliminate_dead_code()
        self.module.delete_all_unused_submodules()
        _drop_unread(self.module)
        self.module.recompile()
        left = {title(node) for node in self._floats()}
        return IntegerForms(
            made=self.made, islands={n: self.islands.get(n, "its result is not quantized") for n in left}
        )

    def _floats(self) -> Iterator[fx.Node]:
        for node in self.module.graph.nodes:
            if node.op != "call_function" or node in self.integers:
                continue
            if not is_quantize(node) and not is_dequantize(node):
                yield node

    def _convert(self, quantize: fx.Node) -> None:
        out = numbers_of(quantize)
        source = quantize.args[0]
        if not isinstance(source, fx.Node) or source.op != "call_function":
            return
        chain = list(self._chain(source))
        core = chain[-1].args[0] if chain else source
        assert isinstance(core, fx.Node)
        try:
            if out is None:
                raise Island("its result is not quantized with one static range")
            made = self._made(quantize, chain, core, out)
        except Island as reason:
            self.islands.update(dict.fromkeys((title(n) for n in (*chain, core)), str(reason)))
            return
        quantize.replace_all_uses_with(made)
        if made.op != "placeholder" and site_of(made) is None:
            mark_site(made, quantize)
        for node in (*chain, core):
            if node.op == "call_function" and not is_dequantize(node):
                self.made.setdefault(title(node), f"integers, {self.profile.name}")
        self.module.graph.erase_node(quantize)

    def _chain(self, node: fx.Node) -> Iterator[fx.Node]:
        """Functions of one tensor that lie behind each other, the last first."""
        while is_function_of_one(self.module, node) and not is_quantize(node) and not is_dequantize(node):
            yield node
            node = node.args[0]

    def _made(self, quantize: fx.Node, chain: Sequence[fx.Node], core: fx.Node, out: Numbers) -> fx.Node:
        if self.only is not None and base_name(core) not in self.only:
            raise Island("the reference representation has no integer form of it")
        bounds = [clamp_bounds(node) for node in chain]
        handler = _HANDLERS.get(base_name(core))
        if handler is not None and all(bound is not None for bound in bounds):
            for bound in reversed(bounds):
                assert bound is not None
                out = out.clamped(*bound)
            return handler(self, quantize, core, out)
        if handler is not None and chain:
            raise Island(f"{title(core)} is not quantized before {title(chain[-1])}")
        operand = self._operand(core, quantize)
        if not chain and operand.numbers == out:
            return operand.node
        return self._function(quantize, operand, list(reversed(chain)), out)

    def operands(self, nodes: Sequence[Any], before: fx.Node) -> list[Operand]:
        return [self._operand(node, before) for node in nodes]

    def _operand(self, node: object, before: fx.Node) -> Operand:
        """The integers behind a float node, also through operators that only move data."""
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
        if base_name(node) not in _MOVERS or self.only is not None:
            raise Island(f"it reads {title(node)}, which is not quantized")
        source = self._operand(node.args[0], before)
        with self.module.graph.inserting_before(node):
            made = self.module.graph.call_function(node.target, (source.node, *node.args[1:]), node.kwargs)
        made.meta = {key: value for key, value in node.meta.items() if key != "val"}
        self.integers.add(made)
        self.made[title(node)] = "moves integers"
        self.moved[node] = Operand(made, source.numbers)
        return self.moved[node]

    def call(self, before: fx.Node, core: fx.Node, operator: nn.Module, *operands: fx.Node) -> fx.Node:
        """A call of an operator, which has the name of what it stands for."""
        name = f"{title(core)}_integer"
        while hasattr(self.module, name):
            name += "_"
        self.module.add_module(name, operator)
        with self.module.graph.inserting_before(before):
            made = self.module.graph.call_module(name, operands)
        made.meta = {key: value for key, value in core.meta.items() if key != "val"}
        return made

    def output(
        self,
        core: fx.Node,
        factors: Sequence[Tensor | float],
        out: Numbers,
        bound: Tensor | int,
        axis: int | None = None,
        *,
        averages: bool = False,
        products: int | None = None,
    ) -> ops.Output:
        """The way from an accumulator of the scale ``Π factors`` to the result."""
        bounds = torch.as_tensor(bound, dtype=torch.int64).reshape(-1)
        check_width(bounds, self.profile.accumulator_bits, operator=title(core))
        scales = effective_scales(self.profile, factors, out.scale)
        multipliers = Multipliers.make(self.profile, scales, operator=title(core))
        check_width(
            torch.tensor([multipliers.room(int(bounds.max()))]), 32, operator=f"rescaling of {title(core)}"
        )
        offset = out.zero_point if averages and self.profile.mean_includes_zero_point else 0
        return ops.Output(
            multipliers, out, bound=int(bounds.max()), products=products, axis=axis, offset=offset
        )

    def _function(
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
        table = out.nearest(self._values(chain, numbers.real(numbers.levels))).to(out.dtype)
        lookup = ops.Lookup(table, low=numbers.low, function=_label(chain))
        return self.call(quantize, core, lookup, operand.node)

    def _values(self, chain: Sequence[fx.Node], real: Tensor) -> Tensor:
        """What functions behind each other make of real numbers, float64."""
        for node in chain:
            args = [constant(self.module, a) if isinstance(a, fx.Node) else a for a in node.args]
            args = [real if given is node.args[0] else a for given, a in zip(node.args, args)]
            real = node.target(*args, **node.kwargs)
        return real.double()

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
        """An operand in the numbers of the result."""
        if operand.numbers == out:
            return operand.node
        return self._function(before, operand, (), out)

    def taken(self, before: fx.Node, core: fx.Node, node: fx.Node, dim: int, places: Tensor) -> fx.Node:
        """The elements at some places along a dimension."""
        held = Rewriter(self.module, before).constant(places, f"_{title(core)}_places")
        with self.module.graph.inserting_before(before):
            made = self.module.graph.call_function(torch.ops.aten.index_select.default, (node, dim, held))
        made.meta = {key: value for key, value in core.meta.items() if key != "val"}
        self.integers.add(made)
        return made

    # operators ------------------------------------------------------------------------------------------

    def accumulate(
        self,
        core: fx.Node,
        operand: Operand,
        rows: Tensor,
        bias: Tensor | None,
        scale: Tensor | float,
        out: Numbers,
        axis: int,
    ) -> ops.Output:
        n = operand.numbers
        bound = accumulator_bound(rows, n.low, n.high, n.zero_point, bias)
        products = int(accumulator_bound(rows, n.low, n.high, n.zero_point, None).max())
        return self.output(core, [n.scale, scale], out, bound, axis, products=products)

    def bias(self, core: fx.Node, node: object, operand: Operand, scale: Tensor | float) -> Tensor | None:
        if node is None:
            return None
        held = constant(self.module, node)
        if held is None:
            assert isinstance(node, fx.Node)
            if not is_dequantize(node) or (kept := constant(self.module, node.args[0])) is None:
                raise Island("its bias is computed")
            return kept.detach().to(torch.int64)
        made = quantize_bias(held.detach(), operand.numbers.scale, scale)
        check_width(made.abs(), 32, operator=f"bias of {title(core)}")
        return made


def _label(chain: Sequence[fx.Node]) -> str:
    return " of ".join(base_name(node) for node in reversed(chain)) or "requantization"


def _drop_unread(module: fx.GraphModule) -> None:
    """Remove the constants that the graph no longer reads: a program would hold them all the same."""
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    called = {str(node.target) for node in module.graph.find_nodes(op="call_module")}
    for path, owner in list(module.named_modules()):
        if any(path == name or path.startswith(f"{name}.") for name in called):
            continue
        for name in (*owner._parameters, *owner._buffers):
            if ".".join((path, name) if path else (name,)) not in read:
                delattr(owner, name)


def _infer_shapes(module: fx.GraphModule) -> None:
    """Give each node its fake tensor: quantize and dequantize have none."""
    inputs = [node.meta["val"] for node in module.graph.find_nodes(op="placeholder")]
    mode = next((value.fake_mode for value in inputs if hasattr(value, "fake_mode")), FakeTensorMode())
    with torch.no_grad():
        FakeTensorProp(module, mode).propagate_dont_convert_inputs(*inputs)


_Handler = Callable[[_Conversion, fx.Node, fx.Node, Numbers], fx.Node]


def _convolution(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    weight = weight_of(c.module, argument(core, "weight"))
    rank = weight.values.dim() - 2
    transposed = "transpose" in base_name(core) or bool(argument(core, "transposed", False))
    groups = int(argument(core, "groups", 1))
    bias = c.bias(core, argument(core, "bias"), operand, weight.scale)
    if weight.axis is not None and weight.axis != (1 if transposed else 0):
        raise Island(f"its weight has scales along dimension {weight.axis}")
    rows = _rows(weight.values, groups) if transposed else weight.values.flatten(1)
    output = c.accumulate(core, operand, rows, bias, weight.scale, out, -rank - 1)
    stride, dilation = (_each(argument(core, key), rank, 1) for key in ("stride", "dilation"))
    padding, pad = _padding(argument(core, "padding"), weight.values.shape[2:], dilation)
    operator = ops.Convolution(
        weight.values, bias, output, zero_point=operand.numbers.zero_point, stride=stride,
        padding=padding, pad=pad, dilation=dilation, transposed=transposed, groups=groups,
        output_padding=_each(argument(core, "output_padding"), rank, 0),
    )  # fmt: skip
    return c.call(quantize, core, operator, operand.node)


def _rows(weight: Tensor, groups: int) -> Tensor:
    """The weights of each output channel of a transposed convolution, ``[C, K]``."""
    inputs, outputs = weight.shape[0] // groups, weight.shape[1]
    return weight.reshape(groups, inputs, outputs, -1).transpose(1, 2).reshape(groups * outputs, -1)


def _each(value: Any, rank: int, default: int) -> list[int]:
    if value is None:
        return [default] * rank
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def _padding(value: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding of both sides, and what ``torch.nn.functional.pad`` takes where the sides differ."""
    if not isinstance(value, str):
        return _each(value, len(kernel), 0), []
    totals = [d * (k - 1) if value == "same" else 0 for k, d in zip(kernel, dilation)]
    if not any(total % 2 for total in totals):
        return [total // 2 for total in totals], []
    pad = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    return [0] * len(kernel), pad


def _linear(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    name = base_name(core)
    if name == "linear":
        given = (core.args[0], argument(core, "weight"), argument(core, "bias"))
    elif name == "addmm":
        given = (argument(core, "mat1"), argument(core, "mat2"), argument(core, "self"))
        if argument(core, "alpha", 1) != 1 or argument(core, "beta", 1) != 1:
            raise Island("alpha or beta is not 1")
    else:
        given = (core.args[0], core.args[1], None)
    operand = c.operands([given[0]], quantize)[0]
    weight = weight_of(c.module, given[1])
    values = weight.values if name == "linear" else weight.values.t()
    axis = None if weight.axis is None else (weight.axis if name == "linear" else 1 - weight.axis)
    if axis:
        raise Island("its weight has scales along its rows")
    bias = c.bias(core, given[2], operand, weight.scale)
    output = c.accumulate(core, operand, values, bias, weight.scale, out, -1)
    operator = ops.Linear(values.contiguous(), bias, output, zero_point=operand.numbers.zero_point)
    return c.call(quantize, core, operator, operand.node)


def _matmul(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    other = core.args[1]
    if isinstance(other, fx.Node) and is_dequantize(other):
        held = constant(c.module, other.args[0])
        if held is not None and held.dim() == 2:
            return _linear(c, quantize, core, out)
    a, b = c.operands(core.args[:2], quantize)
    depth = core.args[0].meta["val"].shape[-1]
    if not isinstance(depth, int):
        raise Island("the number of products that it sums is not known beforehand")
    output = c.output(
        core, [a.numbers.scale, b.numbers.scale], out, depth * a.numbers.reach * b.numbers.reach
    )
    zero_points = (a.numbers.zero_point, b.numbers.zero_point)
    return c.call(quantize, core, ops.MatMul(output, zero_points=zero_points), a.node, b.node)


def _multiply(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    a, b = c.operands(core.args[:2], quantize)
    output = c.output(core, [a.numbers.scale, b.numbers.scale], out, a.numbers.reach * b.numbers.reach)
    zero_points = (a.numbers.zero_point, b.numbers.zero_point)
    return c.call(quantize, core, ops.Multiply(output, zero_points=zero_points), a.node, b.node)


def _extremum(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    # rounding and clamping keep the order: whichever is largest before is so after
    a, b = (c.requantized(quantize, operand, out) for operand in c.operands(core.args[:2], quantize))
    return c.call(quantize, core, ops.Extremum(largest=base_name(core) == "maximum"), a, b)


def _prelu(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    numbers = operand.numbers
    slopes = _held(c, core.args[1], (), 0.0).double().reshape(-1)
    if numbers.high - numbers.low > 255:
        raise Island("a table of more than 8 bits")
    real = numbers.real(numbers.levels)
    table = out.nearest(torch.where(real >= 0, real, real * slopes[:, None])).to(out.dtype)
    table = table if len(slopes) > 1 else table[0]
    return c.call(quantize, core, ops.Lookup(table, low=numbers.low, function="prelu"), operand.node)


def _mean(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    shape = core.args[0].meta["val"].shape
    dims = argument(core, "dim")
    dims = list(range(len(shape))) if dims is None else [d % len(shape) for d in dims]
    count = _static_count([shape[d] for d in dims])
    n = operand.numbers
    output = c.output(core, [n.scale, 1.0 / count], out, count * n.reach, averages=True)
    operator = ops.Mean(output, zero_point=n.zero_point, dims=dims, keepdim=bool(argument(core, "keepdim")))
    return c.call(quantize, core, operator, operand.node)


def _static_count(sizes: Sequence[Any]) -> int:
    if not all(isinstance(size, int) for size in sizes):
        raise Island("the number of elements that it averages is not known beforehand")
    return int(torch.Size(sizes).numel())


def _average_pool(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    kernel, stride, padding = _average_window(core)
    count = kernel[0] * kernel[1]
    n = operand.numbers
    divisor = argument(core, "divisor_override") or count
    output = c.output(core, [n.scale, 1.0 / divisor], out, count * n.reach, averages=True)
    operator = ops.AveragePool(output, zero_point=n.zero_point, kernel=kernel, stride=stride, padding=padding)
    return c.call(quantize, core, operator, operand.node)


def _average_window(core: fx.Node) -> tuple[list[int], list[int], list[int]]:
    if base_name(core) == "adaptive_avg_pool2d":
        sizes, made = core.args[0].meta["val"].shape[-2:], core.args[1]
        made = _each(made, 2, 1)
        if not all(isinstance(s, int) and s % m == 0 for s, m in zip(sizes, made)):
            raise Island(f"windows of unequal size: {tuple(sizes)} to {tuple(made)}")
        kernel = [s // m for s, m in zip(sizes, made)]
        return kernel, kernel, [0, 0]
    kernel = _each(argument(core, "kernel_size"), 2, 1)
    stride = _each(argument(core, "stride") or kernel, 2, 1)
    padding = _each(argument(core, "padding"), 2, 0)
    if argument(core, "ceil_mode"):
        raise Island("ceil mode has windows of unequal size")
    if any(padding) and not argument(core, "count_include_pad") and not argument(core, "divisor_override"):
        raise Island("windows at the edge count fewer elements")
    return kernel, stride, padding


def _max_pool(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    kernel = _each(argument(core, "kernel_size"), 2, 1)
    operator = ops.MaxPool(
        kernel=kernel, stride=_each(argument(core, "stride") or kernel, 2, 1),
        padding=_each(argument(core, "padding"), 2, 0), dilation=_each(argument(core, "dilation"), 2, 1),
        ceil=bool(argument(core, "ceil_mode")),
    )  # fmt: skip
    made = c.call(quantize, core, operator, operand.node)
    return c.requantized(quantize, Operand(made, operand.numbers), out)


def _concatenate(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operands = c.operands(core.args[0], quantize)
    made = [c.requantized(quantize, operand, out) for operand in operands]
    with c.module.graph.inserting_before(quantize):
        node = c.module.graph.call_function(core.target, (made, *core.args[1:]), core.kwargs)
    node.meta = {key: value for key, value in core.meta.items() if key != "val"}
    c.integers.add(node)
    return node


def _nearest(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    shape = list(core.args[0].meta["val"].shape[2:])
    if not all(isinstance(size, int) for size in shape):
        raise Island("its size is not known beforehand")
    node = operand.node
    for dim, size in enumerate(shape):
        # which index each element is taken from, by the operator itself
        numbers = torch.arange(size, dtype=torch.float32).reshape(
            [-1 if d == dim else 1 for d in range(len(shape))]
        )
        made = core.target(numbers.expand(shape).reshape(1, 1, *shape), *core.args[1:], **core.kwargs)[0, 0]
        taken = made.movedim(dim, 0).reshape(made.shape[dim], -1)[:, 0].to(torch.int64)
        node = c.taken(quantize, core, node, dim + 2, taken)
    return c.requantized(quantize, Operand(node, operand.numbers), out)


def _pad(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    if argument(core, "mode", "constant") != "constant":
        raise Island(f"it pads with {argument(core, 'mode')}")
    value = argument(core, "value") or 0.0
    inside = int(operand.numbers.nearest(torch.tensor(float(value), dtype=torch.float64)))
    target = torch.ops.aten.constant_pad_nd.default
    with c.module.graph.inserting_before(quantize):
        node = c.module.graph.call_function(target, (operand.node, argument(core, "pad"), inside))
    node.meta = {key: value for key, value in core.meta.items() if key != "val"}
    c.integers.add(node)
    return c.requantized(quantize, Operand(node, operand.numbers), out)


def _add(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    if argument(core, "alpha", 1) != 1:
        raise Island(f"alpha is {argument(core, 'alpha')}")
    a, b = c.operands(core.args[:2], quantize)
    operator = ops.Add(c.profile, a.numbers, b.numbers, out, subtracts=base_name(core) == "sub")
    return c.call(quantize, core, operator, a.node, b.node)


def _softmax(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    operator = Softmax(operand.numbers, out, int(argument(core, "dim")))
    return c.call(quantize, core, operator, operand.node)


def _layer_norm(c: _Conversion, quantize: fx.Node, core: fx.Node, out: Numbers) -> fx.Node:
    operand = c.operands([core.args[0]], quantize)[0]
    shape = argument(core, "normalized_shape")
    count = _static_count(shape)
    weight, bias = (
        _held(c, argument(core, key), shape, fill) for key, fill in (("weight", 1.0), ("bias", 0.0))
    )
    operator = LayerNorm(
        operand.numbers,
        out,
        count=count,
        rank=len(shape),
        weight=weight,
        bias=bias,
        eps=argument(core, "eps"),
    )
    return c.call(quantize, core, operator, operand.node)


def _held(c: _Conversion, node: object, shape: Sequence[int], fill: float) -> Tensor:
    """A constant, also one that was quantized, or ``fill`` where there is none."""
    if node is None:
        return torch.full(tuple(shape), fill)
    held = constant(c.module, node)
    if held is not None:
        return held.detach()
    weight = weight_of(c.module, node)
    scale = weight.scale if isinstance(weight.scale, float) else weight.scale.double()
    return weight.values.double() * scale


_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(("conv1d", "conv2d", "convolution"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d"), _convolution),
    **dict.fromkeys(("linear", "addmm"), _linear),
    **dict.fromkeys(("mm", "bmm", "matmul"), _matmul),
    "mul": _multiply,
    **dict.fromkeys(("maximum", "minimum"), _extremum),
    "prelu": _prelu,
    **dict.fromkeys(("add", "sub"), _add),
    **dict.fromkeys(("softmax", "_softmax"), _softmax),
    "layer_norm": _layer_norm,
    "mean": _mean,
    **dict.fromkeys(("avg_pool2d", "adaptive_avg_pool2d"), _average_pool),
    "max_pool2d": _max_pool,
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d"), _nearest),
    **dict.fromkeys(("cat", "stack"), _concatenate),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
}  # fmt: skip
