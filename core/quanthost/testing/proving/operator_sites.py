"""What stands around each operator of a converted graph: the integers that it reads and makes."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import fx

from quanthost.graph.operators import arguments, operator_name
from quanthost.graph.qdq import qdq_parameters
from quanthost.graph.rewrite import origin
from quanthost.graph.view import constant, is_dequantize, is_quantize

__all__ = ["Integers", "Sited", "sites"]


@attrs.frozen(kw_only=True, eq=False)
class Integers:
    """Parameters on a quantize or dequantize, of one element or of each channel.

    ``scales`` is ``None`` where they are computed at run time. ``constant`` says whether it is a weight.
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
class Sited:
    """An operator: its arguments that are tensors by schema name, and its result; ``None`` where float."""

    origin: str | None
    operator: str
    arguments: dict[str, Any]
    operands: dict[str, Integers | None]
    result: Integers | None


def sites(module: fx.GraphModule) -> list[Sited]:
    """Each operator of a converted graph but quantize and dequantize, in order."""
    return [
        Sited(
            origin=origin(node), operator=operator_name(node), arguments=arguments(node),
            operands=dict(_operands(module, node)), result=_result(module, node),
        )
        for node in module.graph.nodes
        if node.op == "call_function" and not is_quantize(node) and not is_dequantize(node)
    ]  # fmt: skip


def _operands(module: fx.GraphModule, node: fx.Node) -> list[tuple[str, Integers | None]]:
    found: list[tuple[str, Integers | None]] = []
    for name, value in arguments(node).items():
        items = value if isinstance(value, (list, tuple)) else [value]
        for place, item in enumerate(items):
            if isinstance(item, fx.Node):
                key = name if items is not value else f"{name}.{place}"
                found.append((key, _integers(module, item) if is_dequantize(item) else None))
    return found


def _result(module: fx.GraphModule, node: fx.Node) -> Integers | None:
    readers = [user for user in node.users if is_quantize(user)]
    return _integers(module, readers[0]) if readers and len(readers) == len(node.users) else None


def _integers(module: fx.GraphModule, node: fx.Node) -> Integers:
    source, parameters = node.args[0], qdq_parameters(node)
    assert parameters is not None
    return Integers(
        scales=_number(module, parameters.scale, torch.float64),
        zero_points=_number(module, parameters.zero_point, torch.int64),
        axis=parameters.axis, low=parameters.quant_min, high=parameters.quant_max, dtype=parameters.dtype,
        constant=isinstance(source, fx.Node) and source.op == "get_attr",
    )  # fmt: skip


def _number(module: fx.GraphModule, value: Any, dtype: torch.dtype) -> torch.Tensor | None:
    if isinstance(value, fx.Node):
        held = constant(module, value)
        return None if held is None else held.detach().to(dtype)
    return None if value is None else torch.tensor(value, dtype=dtype)
