"""The quantization parameters on quantize and dequantize nodes, of captured, converted and edge graphs."""

from __future__ import annotations

import operator
from typing import Any

import attrs
import torch
from torch import fx

from quanthost.graph.operators import arguments
from quanthost.graph.view import is_dequantize, is_quantize

__all__ = ["QdqParameters", "qdq_parameters"]


@attrs.frozen(kw_only=True)
class QdqParameters:
    """The parameters as the node has them: ``x ≈ (q - zero_point) × scale``.

    ``scale`` and ``zero_point`` are numbers where the whole tensor has one of each; else nodes, which hold
    constants or compute them at run time. ``zero_point`` is ``None`` if the node has none. ``axis`` is
    set for scales for each channel. ``dtype`` is that of the integers.
    """

    scale: Any
    zero_point: Any
    quant_min: Any
    quant_max: Any
    dtype: torch.dtype | None
    axis: int | None

    @property
    def is_dynamic(self) -> bool:
        """Whether the program computes the range when it runs."""
        return isinstance(self.scale, fx.Node) and self.scale.target is operator.getitem

    @property
    def are_numbers(self) -> bool:
        """Whether the whole tensor has one scale and one zero point, and both are known."""
        return isinstance(self.scale, (int, float)) and isinstance(self.zero_point, int)


def qdq_parameters(node: object) -> QdqParameters | None:
    """The parameters on a quantize or dequantize node, ``None`` for any other node."""
    if not isinstance(node, fx.Node) or not (is_quantize(node) or is_dequantize(node)):
        return None
    values = arguments(node)
    # torchao's operators for blocks name the dtype of what they write or read
    block_dtype = values.get("output_dtype" if is_quantize(node) else "input_dtype")
    return QdqParameters(
        scale=values.get("scale", values.get("scales")),
        zero_point=values.get("zero_point", values.get("zero_points")),
        quant_min=values.get("quant_min"), quant_max=values.get("quant_max"),
        dtype=values.get("dtype", block_dtype), axis=values.get("axis"),
    )  # fmt: skip
