"""Converts a q/dq graph to integer form: operators between dequantize and quantize become exact ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from quanthost.graph.rewrite import drop_idle_dropout
from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.integer.building import Builder, Rule
from quanthost.integer.elementwise import ELEMENTWISE
from quanthost.integer.numbers import Numbers
from quanthost.integer.products import PRODUCTS
from quanthost.integer.sites import (
    Island,
    base_name,
    clamp_bounds,
    is_function_of_one,
    mark_site,
    numbers_of,
    site_of,
    title,
)
from quanthost.integer.windows import WINDOWS
from quanthost.values import ArithmeticProfile

__all__ = ["ACCUMULATING", "IntegerForms", "to_integers"]

_RULES: Mapping[str, Rule] = {**PRODUCTS, **ELEMENTWISE, **WINDOWS}

ACCUMULATING = frozenset(PRODUCTS)
"""Operators that sum products: those which the reference representation has in integer form."""


@attrs.frozen
class IntegerForms:
    """The form of each operator, by the captured node's name.

    ``integer`` describes the operators in integer form, ``islands`` says why the others stay float.
    """

    integer: dict[str, str]
    islands: dict[str, str]


def to_integers(
    module: fx.GraphModule, profile: ArithmeticProfile, only: frozenset[str] | None = None
) -> IntegerForms:
    """Rewrite a q/dq graph that the caller owns; ``only`` names the operators to convert, ``None`` all.

    An operator, with its dequantized operands and the quantize after it, becomes one module on integers.
    Float operators that have no such form stay between dequantize and quantize: islands.

    Raises:
        ArithmeticRangeError: an accumulator, a multiplier or a bias does not fit the profile.
    """
    return _Conversion(module, profile, only).run()


class _Conversion:
    def __init__(
        self, module: fx.GraphModule, profile: ArithmeticProfile, only: frozenset[str] | None
    ) -> None:
        self.module, self.profile, self.only = module, profile, only
        self.builder = Builder(module, profile, moves=only is None)
        self.islands: dict[str, str] = {}

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
            integer=self.builder.forms,
            islands={n: self.islands.get(n, "its result is not quantized") for n in left},
        )

    def _floats(self) -> Iterator[fx.Node]:
        for node in self.module.graph.nodes:
            if node.op != "call_function" or node in self.builder.integers:
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
            result = self._build(quantize, chain, core, out)
        except Island as reason:
            self.islands.update(dict.fromkeys((title(n) for n in (*chain, core)), str(reason)))
            return
        quantize.replace_all_uses_with(result)
        if result.op != "placeholder" and site_of(result) is None:
            mark_site(result, quantize)
        for node in (*chain, core):
            if node.op == "call_function" and not is_dequantize(node):
                self.builder.forms.setdefault(title(node), f"integers, {self.profile.name}")
        self.module.graph.erase_node(quantize)

    def _chain(self, node: fx.Node) -> Iterator[fx.Node]:
        """The chain of functions of one tensor that ends at a node, the last first."""
        while is_function_of_one(self.module, node) and not is_quantize(node) and not is_dequantize(node):
            yield node
            node = node.args[0]

    def _build(self, quantize: fx.Node, chain: Sequence[fx.Node], core: fx.Node, out: Numbers) -> fx.Node:
        if self.only is not None and base_name(core) not in self.only:
            raise Island("the reference representation has no integer form of it")
        bounds = [clamp_bounds(node) for node in chain]
        rule = _RULES.get(base_name(core))
        if rule is not None and all(bound is not None for bound in bounds):
            for bound in reversed(bounds):
                assert bound is not None
                out = out.clamped(*bound)
            return rule(self.builder, quantize, core, out)
        if rule is not None and chain:
            raise Island(f"{title(core)} is not quantized before {title(chain[-1])}")
        operand = self.builder.operand(core, quantize)
        if not chain and operand.numbers == out:
            return operand.node
        return self.builder.function(quantize, operand, list(reversed(chain)), out)


def _drop_unread(module: fx.GraphModule) -> None:
    """Remove the constants that the graph no longer reads, so that the program does not contain them."""
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
