"""Makes infinities saturate at the nearest end of the integers.

ExecuTorch 1.5.1's portable ``quantize_per_tensor`` casts the rescaled value to a 64-bit integer before it
clamps; beyond 2^63 the cast gives the least integer, and so ``quant_min`` for a large positive value. Such
values come from an operator with a pole at zero, which calibration data need not contain.
"""

from __future__ import annotations

from executorch.exir.dialects._ops import ops
from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from quanthost.api import is_dequantize, operator_facts, qdq_parameters

__all__ = ["SaturatesInfinities"]

_QUANTIZE = ops.edge.quantized_decomposed.quantize_per_tensor.default


class SaturatesInfinities(PassBase):  # type: ignore[misc]
    """Clamp what is quantized after an operator with a pole to the range of its integers."""

    def call(self, module: fx.GraphModule) -> PassResult:
        changed = False
        for node in module.graph.find_nodes(op="call_function", target=_QUANTIZE):
            source, numbers = node.args[0], qdq_parameters(node)
            if numbers is None or not _has_pole(source):
                continue
            ends = (numbers.quant_min - numbers.zero_point, numbers.quant_max - numbers.zero_point)
            bounds = tuple(end * numbers.scale for end in ends)
            with module.graph.inserting_before(node):
                clamped = module.graph.call_function(ops.edge.aten.clamp.default, (source, *bounds))
            clamped.meta = dict(source.meta)
            node.replace_input_with(source, clamped)
            changed = True
        if changed:
            module.recompile()
        return PassResult(module, changed)


def _has_pole(source: fx.Node) -> bool:
    """Whether an operator between here and the last dequantized values can give an infinity."""
    ahead, visited = [source], {source}
    while ahead:
        node = ahead.pop()
        if node.op != "call_function":
            continue
        if operator_facts(node).has_pole:
            return True
        if not is_dequantize(node):
            ahead += [each for each in node.all_input_nodes if each not in visited]
            visited.update(node.all_input_nodes)
    return False
