"""What a torchao quantizer annotates, read back as our qspecs: for quantizers that exist already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch
from torch import fx
from torchao.quantization.pt2e import FusedMovingAvgObsFakeQuantize
from torchao.quantization.pt2e.fake_quantize import FakeQuantizeBase
from torchao.quantization.pt2e.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from quanthost.arith.dtypes import dtype_of
from quanthost.graph.sharing import Point
from quanthost.toolchain.pt2e import ANNOTATION, deep_copy
from quanthost.values import (
    AnyQSpec,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Granularity,
    QSpec,
    RangeEstimator,
    Symmetry,
    Timing,
)

__all__ = ["Annotated", "Quantizer", "annotated", "qspec_of", "shared_root"]

_PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric)
_SYMMETRIC = (torch.per_tensor_symmetric, torch.per_channel_symmetric)
# HistogramObserver searches the range with the least squared error
_ESTIMATORS = {
    HistogramObserver: Estimator.MSE,
    MinMaxObserver: Estimator.MINMAX,
    PerChannelMinMaxObserver: Estimator.MINMAX,
    MovingAverageMinMaxObserver: Estimator.MOVING_AVERAGE,
    MovingAveragePerChannelMinMaxObserver: Estimator.MOVING_AVERAGE,
    FusedMovingAvgObsFakeQuantize: Estimator.MOVING_AVERAGE,
}


@attrs.frozen(kw_only=True, eq=False)
class Annotated:
    """The annotation of one operator: specs by the node that is read, and the result's, ``None`` for float.

    Nodes are those of the graph that was asked about.
    """

    node: fx.Node
    inputs: dict[fx.Node, Any]
    output: Any


def annotated(quantizer: Quantizer, graph_module: fx.GraphModule) -> list[Annotated]:
    """What a quantizer annotates in a graph, in the graph's order; the graph is not changed."""
    copied = deep_copy(graph_module)
    for node in copied.graph.nodes:
        node.meta.pop(ANNOTATION, None)
    own = dict(zip(copied.graph.nodes, graph_module.graph.nodes))
    quantizer.annotate(copied)
    found: list[Annotated] = []
    for node in copied.graph.nodes:
        annotation = node.meta.get(ANNOTATION)
        # quantizers mark the constants of what they annotate, too
        if node.op == "call_function" and isinstance(annotation, QuantizationAnnotation):
            inputs = {
                own[source]: _of_originals(spec, own) for source, spec in annotation.input_qspec_map.items()
            }
            output = _of_originals(annotation.output_qspec, own)
            found.append(Annotated(node=own[node], inputs=inputs, output=output))
    return found


def _of_originals(spec: Any, own: Mapping[fx.Node, fx.Node]) -> Any:
    """A spec that speaks of the graph's own nodes in place of the copy's."""
    if isinstance(spec, SharedQuantizationSpec):
        return SharedQuantizationSpec(_key(spec.edge_or_node, own))
    if isinstance(spec, DerivedQuantizationSpec):
        keys = [_key(each, own) for each in spec.derived_from]
        return DerivedQuantizationSpec(**{**_fields(spec), "derived_from": keys})
    return spec


def _fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in type(spec).__dataclass_fields__}


def _key(edge_or_node: Any, own: Mapping[fx.Node, fx.Node]) -> Any:
    if isinstance(edge_or_node, tuple):
        return tuple(own[node] for node in edge_or_node)
    return own[edge_or_node]


def point_of(edge_or_node: Any) -> Point:
    """torchao's name of a result, or of one use of it, as a point."""
    if isinstance(edge_or_node, tuple):
        return Point(*edge_or_node)
    return Point(edge_or_node)


def qspec_of(spec: Any, capture_of: Callable[[Point], str | None]) -> AnyQSpec | str:
    """A torchao spec as a value, or the reason why it has none.

    ``capture_of`` names the captures whose scales a derived one multiplies.
    """
    if isinstance(spec, FixedQParamsQuantizationSpec):
        return _fixed(spec)
    if isinstance(spec, DerivedQuantizationSpec):
        return _derived(spec, capture_of)
    if isinstance(spec, QuantizationSpec):
        return _free(spec)
    return f"a {type(spec).__name__}"


def _fixed(spec: FixedQParamsQuantizationSpec) -> AnyQSpec | str:
    dtype = dtype_of(spec.dtype)
    if dtype is None:
        return f"integers of type {spec.dtype}"
    limits = _limits(spec, dtype)
    return FixedQSpec(dtype=dtype, scale=float(spec.scale), zero_point=int(spec.zero_point), **limits)


def _limits(spec: Any, dtype: DType) -> dict[str, int]:
    low, high = spec.quant_min, spec.quant_max
    return {
        "quant_min": dtype.minimum if low is None else int(low),
        "quant_max": dtype.maximum if high is None else int(high),
    }


def _free(spec: QuantizationSpec) -> AnyQSpec | str:
    dtype = dtype_of(spec.dtype)
    if dtype is None:
        return f"integers of type {spec.dtype}"
    per_channel = spec.qscheme in _PER_CHANNEL
    estimator = RangeEstimator() if spec.is_dynamic else _estimator(spec.observer_or_fake_quant_ctr)
    if isinstance(estimator, str):
        return estimator
    limits = _limits(spec, dtype)
    return QSpec(
        dtype=dtype, quant_min=limits["quant_min"], quant_max=limits["quant_max"],
        granularity=Granularity.PER_CHANNEL if per_channel else Granularity.PER_TENSOR,
        axis=(0 if spec.ch_axis is None else int(spec.ch_axis)) if per_channel else None,
        symmetry=Symmetry.SYMMETRIC if spec.qscheme in _SYMMETRIC else Symmetry.AFFINE,
        timing=Timing.DYNAMIC if spec.is_dynamic else Timing.STATIC, estimator=estimator,
    )  # fmt: skip


def _estimator(make: Any) -> RangeEstimator | str:
    """The estimator of an observer, which a spec holds as a function that makes one."""
    made = make()
    if isinstance(made, FakeQuantizeBase) and not isinstance(made, FusedMovingAvgObsFakeQuantize):
        made = made.activation_post_process
    kind = _ESTIMATORS.get(type(made))
    if kind is None:
        return f"ranges from a {type(made).__name__}"
    if kind is not Estimator.MOVING_AVERAGE:
        return RangeEstimator(kind=kind)
    observer = getattr(made, "activation_post_process", made)
    return RangeEstimator(kind=kind, momentum=float(observer.averaging_constant))


class _Probe:
    """Stands in for an observer, to see what is derived of its scale."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([self._scale]), torch.tensor([0])


def _derived(spec: DerivedQuantizationSpec, capture_of: Callable[[Point], str | None]) -> AnyQSpec | str:
    dtype = dtype_of(spec.dtype)
    if dtype is None:
        return f"integers of type {spec.dtype}"
    sources = [capture_of(point_of(key)) for key in spec.derived_from]
    if None in sources:
        return "a scale that is derived from another operator's"
    if not _multiplies(spec, len(sources)):
        return "a scale that is derived otherwise than as a product"
    return DerivedQSpec(sources=tuple(map(str, sources)), dtype=dtype, **_limits(spec, dtype))


def _multiplies(spec: DerivedQuantizationSpec, count: int) -> bool:
    """Whether scales are multiplied: powers of two show it without rounding."""
    scales = [0.5**power for power in range(1, count + 1)]
    product = 0.5 ** (count * (count + 1) // 2)
    try:
        scale, zero_point = spec.derive_qparams_fn([_Probe(each) for each in scales])
    except Exception:
        return False
    return bool((scale == product).all()) and not bool(zero_point.any())


def shared_root(spec: Any, specs: Mapping[Point, Any]) -> tuple[Any, Iterable[Point]]:
    """The spec that a shared one stands for in the end, and the points that lead to it."""
    way: list[Point] = []
    while isinstance(spec, SharedQuantizationSpec):
        point = point_of(spec.edge_or_node)
        if point in way:
            return None, way
        way.append(point)
        spec = specs.get(point)
    return spec, way
