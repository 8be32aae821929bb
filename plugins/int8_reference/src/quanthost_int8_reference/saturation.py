"""Infinities saturate at the end of the integers that they lie beyond.

ExecuTorch 1.5.1's portable ``quantize_per_tensor`` casts the rescaled value to a 64-bit integer before it
clamps; beyond 2^63 that gives the least one, and so ``quant_min`` for a large positive value. Values that
large come of an operator with a pole, read at a zero that calibration data need not hold.
"""

from __future__ import annotations

from executorch.exir.dialects._ops import ops
from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from quanthost.api import is_dequantize, operator_name

__all__ = ["SaturatesInfinities"]

_QUANTIZE = ops.edge.quantized_decomposed.quantize_per_tensor.default
_POLES = ("aten.div.", "aten.reciprocal.", "aten.rsqrt.")


class SaturatesInfinities(PassBase):  # type: ignore[misc]
    """Clamp what is quantized right behind an operator with a pole to the range of its integers."""

    def call(self, module: fx.GraphModule) -> PassResult:
        changed = False
        for node in module.graph.find_nodes(op="call_function", target=_QUANTIZE):
            source, scale, zero_point, low, high = node.args[:5]
            if not _has_pole(source):
                continue
            with module.graph.inserting_before(node):
                bounds = ((low - zero_point) * scale, (high - zero_point) * scale)
                clamped = module.graph.call_function(ops.edge.aten.clamp.default, (source, *bounds))
            clamped.meta = dict(source.meta)
            node.replace_input_with(source, clamped)
            changed = True
        if changed:
            module.recompile()
        return PassResult(module, changed)


def _has_pole(source: fx.Node) -> bool:
    """Whether an operator between here and the last dequantized values can give an infinity."""
    ahead, seen = [source], {source}
    while ahead:
        node = ahead.pop()
        if node.op != "call_function":
            continue
        if operator_name(node).startswith(_POLES):
            return True
        if not is_dequantize(node):
            ahead += [each for each in node.all_input_nodes if each not in seen]
            seen.update(node.all_input_nodes)
    return False
