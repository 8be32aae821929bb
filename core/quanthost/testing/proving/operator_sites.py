"""Finds the quantization parameters at each operator of a converted graph: of operands and result."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import fx

from quanthost.graph.operators import arguments, operator_name
from quanthost.graph.qdq import qdq_parameters
from quanthost.graph.rewrite import origin
from quanthost.graph.view import constant, is_dequantize, is_quantize

__all__ = ["OperatorSite", "TensorParameters", "find_sites"]


@attrs.frozen(kw_only=True, eq=False)
class TensorParameters:
    """The parameters of a quantize or dequantize, of one element or of each channel.

    ``scales`` is ``None`` if they are computed at run time. ``constant`` is set for a weight.
    """

    scales: torch.Tensor | None
    zero_points: torch.Tensor | None
    axis: int | None
    low: int | None
    high: int | None
    dtype: torch.dtype | None
    constant: bool

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal parameters."""
        scales = None if self.scales is None else tuple(self.scales.reshape(-1).tolist())
        points = None if self.zero_points is None else tuple(self.zero_points.reshape(-1).tolist())
        return (scales, points, self.low, self.high, self.dtype)

    def __str__(self) -> str:
        if self.scales is None or self.zero_points is None:
            return f"{self.dtype}, range at run time"
        if self.scales.numel() > 1:
            return f"{self.dtype}, {self.scales.numel()} scales along axis {self.axis}"
        return f"{self.dtype}, scale {float(self.scales):.6g}, zero point {int(self.zero_points)}"


@attrs.frozen(kw_only=True, eq=False)
class OperatorSite:
    """An operator with the parameters of its tensor arguments, by schema name, and of its result.

    The parameters of a float tensor are ``None``.
    """

    origin: str | None
    operator: str
    arguments: dict[str, Any]
    operands: dict[str, TensorParameters | None]
    result: TensorParameters | None


def find_sites(module: fx.GraphModule) -> list[OperatorSite]:
    """Each operator of a converted graph except quantize and dequantize, in order."""
    return [
        OperatorSite(
            origin=origin(node), operator=operator_name(node), arguments=arguments(node),
            operands=dict(_operands(module, node)), result=_result(module, node),
        )
        for node in module.graph.nodes
        if node.op == "call_function" and not is_quantize(node) and not is_dequantize(node)
    ]  # fmt: skip


def _operands(module: fx.GraphModule, node: fx.Node) -> list[tuple[str, TensorParameters | None]]:
    operands: list[tuple[str, TensorParameters | None]] = []
    for name, value in arguments(node).items():
        items = value if isinstance(value, (list, tuple)) else [value]
        for place, item in enumerate(items):
            if isinstance(item, fx.Node):
                key = name if items is not value else f"{name}.{place}"
                operands.append((key, _read_parameters(module, item) if is_dequantize(item) else None))
    return operands


def _result(module: fx.GraphModule, node: fx.Node) -> TensorParameters | None:
    readers = [user for user in node.users if is_quantize(user)]
    return _read_parameters(module, readers[0]) if readers and len(readers) == len(node.users) else None


def _read_parameters(module: fx.GraphModule, node: fx.Node) -> TensorParameters:
    source, parameters = node.args[0], qdq_parameters(node)
    assert parameters is not None
    return TensorParameters(
        scales=_read_constant(module, parameters.scale, torch.float64),
        zero_points=_read_constant(module, parameters.zero_point, torch.int64),
        axis=parameters.axis, low=parameters.quant_min, high=parameters.quant_max, dtype=parameters.dtype,
        constant=isinstance(source, fx.Node) and source.op == "get_attr",
    )  # fmt: skip


def _read_constant(module: fx.GraphModule, value: Any, dtype: torch.dtype) -> torch.Tensor | None:
    if isinstance(value, fx.Node):
        tensor = constant(module, value)
        return None if tensor is None else tensor.detach().to(dtype)
    return None if value is None else torch.tensor(value, dtype=dtype)
